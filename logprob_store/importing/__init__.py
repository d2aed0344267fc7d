"""Responses somebody already has, into a store. No network.

files -> sources: items, one JSON value or stream each -> records: what was asked, what came back
      -> ledger: seen before? which prompt? -> importing: decode and commit, as a run does
"""
