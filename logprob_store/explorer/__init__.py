"""`logprobs explore`: a store of any size in the browser, served on this machine alone."""
