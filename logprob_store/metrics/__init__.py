"""Metrics of stored logprobs: polars expressions, and tables of what no expression can compute."""
