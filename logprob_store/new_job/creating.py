"""Writing a new job: checked as a run would check it, and then written; and the demo."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import InputError, disk_error
from logprob_store.job import make_job
from logprob_store.new_job.job_text import job_text
from logprob_store.run.plan import check_plan, plan_job
from logprob_store.run.preflight import ModelCheck

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.new_job.job_text import NewJob
    from logprob_store.run.plan import Chunk, Plan

DEMO_FILES: Final = ("demo.toml", "capitals.parquet", "capitals.jsonl.zst")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 50
_PARTS_WITHOUT_NAME: Final = re.compile(r"[*?\[=]|^\.*$")


def name_of_prompts(path: str) -> str:
    """A job's name after its prompts: the last part of their path that names something.

    >>> [name_of_prompts(path) for path in ("data/My reviews.parquet", "in/tickets/*.parquet", "..")]
    ['My-reviews', 'tickets', 'job']
    """
    for part in reversed(Path(path).parts):
        name = _NOT_IN_NAMES.sub("-", Path(part).stem).strip("-.")[:_LONGEST_NAME]
        if name and not _PARTS_WITHOUT_NAME.search(part):
            return name
    return "job"


def path_from(folder: Path, pattern: str) -> str:
    """A path as a job file in a folder has it, of one that is relative to the working directory."""
    if pattern.startswith("~") or Path(pattern).is_absolute():
        return pattern
    return Path(os.path.relpath(Path.cwd() / pattern, folder.resolve())).as_posix()


def check_base_url(url: str) -> str:
    """The URL of a server, if a job can have it.

    Raises:
        JobError: it is no such URL.
    """
    prompts, store = {"path": "prompts.parquet", "prompt": "text"}, {"path": "out"}
    make_job("server", prompts=prompts, model={"name": "m", "base_url": url}, store=store)
    return url


def check_new_job(new: NewJob, file: Path) -> tuple[Plan, Chunk | None]:
    """The calls of a job that is not written yet, checked as a dry run checks them, and the first of these calls.

    Raises:
        InputError: the job or its prompts are wrong, or the model would refuse what it asks.
    """
    sections: dict[str, Any] = tomllib.loads(job_text(new, file.name))
    base = file.resolve().parent
    if not sections["prompts"]["path"].startswith("~"):  # the folder may not be there yet, and `..` then leads nowhere
        sections["prompts"]["path"] = os.path.normpath(base / sections["prompts"]["path"])
    plan = plan_job(make_job(sections.pop("name"), base=base, **sections))
    check_plan(plan)
    first = next(plan.chunks(), None)
    if first is not None:
        ModelCheck(plan.job).refuse_hopeless(first.requests)
    return plan, first


def write_new_job(new: NewJob, file: Path, *, force: bool = False) -> None:
    """Write a job file.

    Args:
        new: what the job is to be.
        file: where; missing folders are made.
        force: replace a file that is there.

    Raises:
        InputError: there is such a file, or it cannot be written.
    """
    _write({file: job_text(new, file.name).encode()}, force=force)


def write_demo(folder: Path, *, force: bool = False) -> list[Path]:
    """Write a small job with its prompts and recordings, which runs offline.

    Raises:
        InputError: as `write_new_job`.
    """
    source = resources.files(__package__).joinpath("demo")
    _write({folder / name: source.joinpath(name).read_bytes() for name in DEMO_FILES}, force=force)
    return [folder / name for name in DEMO_FILES]


def refuse_existing(*files: Path) -> None:
    """Refuse to write where something is.

    Raises:
        InputError: there is; the message names it.
    """
    for file in files:
        if file.exists() or file.is_symlink():
            raise InputError(f"{file} is there already: name another file, or replace it with --force")


def _write(contents: Mapping[Path, bytes], *, force: bool) -> None:
    if not force:
        refuse_existing(*contents)
    for file, content in contents.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if force:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()  # not written through a link, which may lead to something of worth
            with file.open("xb") as opened:
                opened.write(content)
        except OSError as error:
            raise disk_error("the job", file, error, of_answers=False) or InputError(
                f"{file} cannot be written: {error.strerror or error}"
            ) from error
