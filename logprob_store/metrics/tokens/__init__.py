"""Metrics of the chosen tokens: expressions over the `tokens` table."""
