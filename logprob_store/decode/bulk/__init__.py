"""The compiled scanner: regular logprobs of many answers to tables, without a Python object per token."""
