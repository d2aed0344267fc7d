"""Metrics of what the model might have said: expressions over the `alternatives` table."""
