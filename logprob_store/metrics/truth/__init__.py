"""Confidences against the truth: calibration, ranking, thresholds, conformal sets, bootstrap intervals.

The metrics take rows of one answer each, with a confidence (a probability in [0, 1]) and whether the answer was right
(a Boolean, or 0 and 1). A row with a null in either is unjudged: it is left out and counted by `unjudged`. In the
formulas, c is the confidence, y is 1 where the answer was right and 0 where it was wrong, and n is the number of judged
rows.
"""
