"""Import of responses that were recorded elsewhere; makes no network calls.

    sources   files and folders -> items: JSON values and event streams (bytes from `packed_files`)
    records   items -> records: the answer, its prompt's id and its request (JSON keys by `raw_json`)
    ledger    records -> the prompt and sample of each, unless the run has the record already
    importer  records -> parts, decoded and committed as in a run (rows from `part_rows`)

`api` is the way in. `known_requests` keeps the requests that belong to answers of the Batch API.
"""
