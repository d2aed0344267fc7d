"""Metrics of the alternatives to each token: expressions over the `alternatives` table."""
