"""Calibrators: maps from a confidence to the chance of being right, fitted on judged answers and saved as JSON."""
