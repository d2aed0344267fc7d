"""The Batch API: the calls of a run in files that a service works off within a day, at half the price.

A batch is packed (`input_file`), carried through its life (`client`, with each step written down in `journal`), and
read (`output_file`). What services differ in is in `services`. Which calls go into a batch, and what becomes of the
answers, is in `logprob_store.run.batches`.
"""
