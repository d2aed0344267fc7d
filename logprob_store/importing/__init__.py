"""Import of responses that were recorded elsewhere; makes no network calls.

    sources   files and folders -> items: JSON values and events (packed bytes by `packed_files`, text by `json_values`)
    records   items -> records: the answer, its prompt's id and its request (streams by `stream_parts`, recordings of
              other tools by `readers`, JSON keys by `raw_json`)
    ledger    records -> the prompt and sample of each, unless the run has the record already
    importer  records -> parts, decoded and committed as in a run (rows from `part_rows`)

`api` is the way in. `known_requests` keeps the requests that belong to answers of the Batch API.
"""
