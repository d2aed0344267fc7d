"""Metrics that need to know which answers were right."""
