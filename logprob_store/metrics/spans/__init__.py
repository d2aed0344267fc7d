"""Metrics of words, sentences, lines and JSON fields: spans of the text that the tokens spell."""
