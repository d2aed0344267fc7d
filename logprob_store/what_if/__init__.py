"""What would have followed another token: one call of a job that goes on from an alternative that was not written."""
