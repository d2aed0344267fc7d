"""Whether the model takes what the job asks, and how long it will be there: by the table of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logprob_store.doctor.check import Check

if TYPE_CHECKING:
    from logprob_store.request import Request
    from logprob_store.run.preflight import ModelCheck


def check_parameters(models: ModelCheck, request: Request) -> Check:
    """Whether the model takes a request of the job.

    Args:
        models: what is known of the job's model.
        request: the first one.
    """
    if (refusal := models.refusal(request)) is not None:
        return Check("parameters", "fail", refusal.sentence())
    if (notice := models.notice()) is not None:
        return Check("parameters", "warn", notice)
    return Check("parameters", "ok", f"{request.model} is known to take what the job asks")
