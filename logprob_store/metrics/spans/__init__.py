"""Metrics of words, sentences, lines and JSON fields: runs of tokens that spell a span of the text."""
