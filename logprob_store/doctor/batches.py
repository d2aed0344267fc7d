"""The service of a job that goes in batches: does it have files and batches, and may this key list them?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.doctor.check import Check, failed
from logprob_store.doctor.folders import check_folder
from logprob_store.errors import CallError, InputError, StopRunError
from logprob_store.run.resources import open_batch_client

if TYPE_CHECKING:
    from logprob_store.job import Job

_FORBIDDEN: Final = 403
_NO_SUCH_PATH: Final = frozenset({404, 405, 501})


async def check_batches(job: Job, needed_bytes: int) -> Check:
    """Whether batches can be sent; nothing is.

    Args:
        job: has `transport.kind = "batch"`.
        needed_bytes: about what files of batches take.
    """
    if job.batch_folder is not None:
        return check_folder("batches", job.batch_folder, needed_bytes=needed_bytes)
    try:
        async with open_batch_client(job) as client:
            await client.check()
    except (InputError, CallError, StopRunError) as error:
        return _refused(error)
    return Check("batches", "ok", "the service has files and batches, and lists them to this key")


def _refused(error: InputError | CallError | StopRunError) -> Check:
    if isinstance(error, StopRunError) and error.status == _FORBIDDEN:
        said = f"the key may not list files or batches ({error.said}): one whose creation is not answered is not found"
        return Check("batches", "warn", said)
    if isinstance(error, CallError) and error.status in _NO_SUCH_PATH:
        return Check("batches", "fail", f'no Batch API is there ({error}): use transport.kind = "live"')
    return failed("batches", error)
