"""A recorded call as a reader finds it in a file: the request, the response, and what is known about both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One call.

    Args:
        element: its place in the object, where that holds several.
        prompt_id: the id that the recording gives the prompt.
        request: the request's body, parsed or as JSON text; None if it is not known.
        url: where it was sent.
        prompt: the messages or the text, where they are known though the request is not.
        status: the HTTP status.
        body: the response's body; None if there was no response.
        error: why there was none.
        problem: what is wrong with the recording, as the type and the message of a failure.
        source: `batch` or `import`.
        is_request: whether it is the request of a batch, whose answer stands elsewhere.
        recorded_at: when the answer came.
    """

    element: int | None = None
    prompt_id: str | None = None
    request: Any = None
    url: str | None = None
    prompt: Any = None
    status: int = 200
    body: bytes | None = None
    error: Any = None
    problem: tuple[str, str] | None = None
    source: str = "import"
    is_request: bool = False
    recorded_at: datetime | None = None
