"""What a run has spent, what it may spend, and the file that remembers it through a crash."""

from logprob_store.spending.call_log import CALL_LOG, CallLog, OpenCall, open_call_log, read_call_log, restore_call_log
from logprob_store.spending.ceilings import Ceilings, Hold, Spending
from logprob_store.spending.usage import Prices, Usage, find_usage, read_usage, usage_of
from logprob_store.spending.worst_case import MAXIMA, check_bounded, choices, most_output, worst_case

__all__ = [
    "CALL_LOG",
    "MAXIMA",
    "CallLog",
    "Ceilings",
    "Hold",
    "OpenCall",
    "Prices",
    "Spending",
    "Usage",
    "check_bounded",
    "choices",
    "find_usage",
    "most_output",
    "open_call_log",
    "read_call_log",
    "read_usage",
    "restore_call_log",
    "usage_of",
    "worst_case",
]
