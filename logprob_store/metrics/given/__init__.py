"""Metrics of text that was given and not written: scored texts and candidates."""
