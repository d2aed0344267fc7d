"""Whether a job can run: looked at before the night, one line for each thing that a run needs."""
