"""Calibrators: from a confidence to the chance of being right; fitted once, saved as JSON, applied as an expression."""
