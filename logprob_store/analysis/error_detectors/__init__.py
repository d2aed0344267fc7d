"""Detectors of wrong answers, learned from several scores at once: fitted on judged answers, saved as numbers."""
