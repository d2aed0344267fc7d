"""Metrics over stored logprobs: polars expressions for any group_by, over or filter. See docs/metrics.md."""
