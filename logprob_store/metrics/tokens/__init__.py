"""Metrics of the tokens that were chosen: expressions over the `tokens` table."""
