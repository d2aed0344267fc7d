"""Metrics of given text: candidates to choose from, and perplexities of whole texts."""
