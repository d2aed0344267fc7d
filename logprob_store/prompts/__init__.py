"""From Parquet files to prompts.

`input_files` finds the files, `columns` checks what they hold, `ids` checks the ids, `scanning` reads the rows,
`template` and `prompt` turn a row into a prompt, and `batches` yields the prompts, a batch at a time. The body of a
request is built in `logprob_store.request`.
"""
