"""From files of rows to prompts.

`input_files` finds the files, `text_tables` makes Parquet of CSV and JSON Lines, `columns` checks what they hold, `ids`
checks the ids, `scanning` reads the rows, `template` and `prompt` turn a row into a prompt, and `batches` yields the
prompts, a batch at a time. The body of a request is built in `logprob_store.request`.
"""
