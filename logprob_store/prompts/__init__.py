"""From Parquet to prompts: which files, what their columns mean, and what each row asks.

`files` finds, `unifying` and `columns` check columns, `ids` checks ids, `counting` counts continuations, `scanning`
reads rows, `values` and `rows` turn them into what is asked, `reading` hands out batches. Left out: the body that is
sent (`request`).
"""
