"""The classes of failure in one table: what each means, and what follows from it.

`classify` finds the class of an HTTP answer: by its structured code first, then by its status, and by its words only
where servers have no code. The table is acted on elsewhere: `run.attempts` repeats calls, `run.session` stops the run,
`pacing.outcomes` adjusts the pace of other calls, `spending.budget` counts what may be billed.

A new class is one entry in `_CLASSES`. `make docs` writes `failures_table()` into docs/reliability/failures.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureClass:
    """One class of failure.

    Args:
        name: the `error_type` of failure rows, and the `reason` of a stop.
        means: what happened.
        then: what follows for this call: `again` (repeated; a failure row once the attempts are used up), `row` (a
            failure row at once) or `stop` (the run stops and can be continued).
        pace: what follows for other calls: `limit` (they wait as long as the server says; if it says nothing,
            concurrency is cut), `outage` (concurrency does not grow; many in a row open the breaker) or nothing.
        billed: whether the call may have cost money: `no`, `maybe`, `yes`.
        counts: whether the call uses up one of the attempts.
        ask_anew: whether the bad answer is in the cache, so that a repeated call has to go to the server.
        advice: the message of a stop, with what to do; `{where}` is replaced by the server's words. Needed where an
            answer's status or code can stop the run.
        if_all: the message of a stop because each of the first outcomes is of this class; `{count}` is replaced by
            their number. Without one, the first outcomes of this class stop nothing.
        statuses: HTTP statuses of this class.
        codes: structured codes (`error.code`) of this class, whatever the status.
    """

    name: str
    means: str
    then: Literal["again", "row", "stop"]
    pace: Literal["", "limit", "outage"] = ""
    billed: Literal["no", "maybe", "yes"] = "no"
    counts: bool = True
    ask_anew: bool = False
    advice: str = ""
    if_all: str = ""
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()

    @property
    def what_to_change(self) -> str:
        """What to do about it, where every call fails so: the end of `if_all`, as sentences; empty without one."""
        return self.if_all.rpartition("{where}")[2].lstrip(". :")


_CLASSES: Final = (
    FailureClass(
        name="rate_limit",
        means="too many requests or tokens for now",
        then="again",
        pace="limit",
        statuses=frozenset({429}),
        codes=frozenset({"rate_limit_exceeded", "slow_down"}),
    ),
    FailureClass(
        name="no_capacity",
        means="the service has no room for a call by the tier `flex` now; no attempt is used up",
        then="again",
        counts=False,
        codes=frozenset({"resource_unavailable"}),
    ),
    FailureClass(
        name="server_error",
        means="the server failed or was overloaded",
        then="again",
        pace="outage",
        statuses=frozenset({408, 409, 424, 425, *range(500, 600)}),
    ),
    FailureClass(
        name="connection", means="no connection, or it broke off", then="again", pace="outage", billed="maybe"
    ),
    FailureClass(
        name="timeout", means="no whole answer within `limits.timeout_s`", then="again", pace="outage", billed="maybe"
    ),
    FailureClass(
        name="machine_limit",
        means="this machine has no file descriptor, port or memory for another connection; no attempt is used up",
        then="again",
        pace="limit",
        counts=False,
    ),
    FailureClass(
        name="malformed_answer",
        means="a 2xx answer that is no JSON object, or is broken off; one without choices is asked again by the next "
        "session only",
        then="again",
        billed="maybe",
        ask_anew=True,
        if_all="none of the first {count} answers is one that can be read. {where}. See that model.base_url leads to "
        "an OpenAI-compatible API, and that model.endpoint is what it speaks.",
    ),
    FailureClass(
        name="quota",
        means="the account has no credit left",
        then="stop",
        advice="the quota is used up. {where}. Add credit, then run the same command to go on.",
        statuses=frozenset({402}),
        codes=frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}),
    ),
    FailureClass(
        name="authentication",
        means="the key is refused",
        then="stop",
        advice="the server refuses this key. {where}. Check the key that the job's api_key_env names.",
        # 403 may be one prompt's failure: see `run.forbidden_calls`.
        statuses=frozenset({401, 403}),
    ),
    FailureClass(
        name="certificate",
        means="the server's certificate is not trusted or is of another name, or it speaks no TLS",
        then="stop",
        advice="the server cannot prove who it is. {where}. Name the certificates to trust in SSL_CERT_FILE, or "
        "correct model.base_url.",
    ),
    FailureClass(
        name="logprobs_refused",
        means="the model gives no logprobs",
        then="stop",
        advice="the model does not give logprobs, so every prompt would fail alike. {where}. One that reasons may give "
        'them without: params = {{ reasoning_effort = "none", max_completion_tokens = 64 }}, at endpoint "responses" '
        'params = {{ reasoning = {{ effort = "none" }}, max_output_tokens = 64 }} (`logprobs models` shows which do). '
        "Else choose another model, lower top_logprobs if that is what is refused, or write logprobs = false to do "
        "without.",
    ),
    FailureClass(
        name="unknown_endpoint",
        means="the server does not know `/decisions`",
        then="stop",
        advice="the server does not answer typed questions. {where}. Name one that does in model.base_url (OpenAI's, "
        "SGLang's, some gateways'), or ask with model.endpoint = \"chat\" and read the label from its logprobs.",
    ),
    FailureClass(
        name="all_refused",
        means="the first calls were all refused with the same status",
        then="stop",
    ),
    FailureClass(
        name="limit_closed",
        means="the server says three times in a row to wait longer than `limits.retry_for_s`",
        then="stop",
        pace="limit",
    ),
    FailureClass(
        name="outage",
        means="no call had an answer of use from the first one on, and the server failed or refused all of them for as "
        "long as `limits.retry_for_s`, or until the attempts of each prompt were used up; or there was no connection "
        "to the server for a minute from the start",
        then="stop",
        pace="outage",
        advice="the server has answered no call for {seconds} s, and is waited for no longer (limits.retry_for_s). "
        "{where}. See that it runs and "
        "takes what the job asks (model.base_url, model.name, model.params), then run the same command to go on.",
    ),
    FailureClass(
        name="budget", means="the next call could pass a ceiling of the job (`limits.max_cost_usd` ...)", then="stop"
    ),
    FailureClass(
        name="over_limit",
        means="the request alone is larger than the whole limit of tokens per minute; found before it is sent if the "
        "job has the limit, or a call as large was refused",
        then="row",
        codes=frozenset({"request_too_large", "tokens_limit_reached"}),
    ),
    FailureClass(
        name="too_large",
        means="an answer of more than `limits.max_answer_bytes`",
        then="row",
        billed="maybe",
        if_all="each of the first {count} answers is too large. {where}.",
    ),
    FailureClass(
        name="unknown_encoding",
        means="an answer in a content encoding that was not asked for and cannot be read (`br`)",
        then="row",
        billed="maybe",
        if_all="none of the first {count} answers can be read. {where}, then run it again.",
    ),
    FailureClass(
        name="content_filter",
        means="the server refuses this prompt's content",
        then="row",
        billed="maybe",
        statuses=frozenset({451}),
        codes=frozenset(
            {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "data_inspection_failed"}
        ),
    ),
    FailureClass(
        name="invalid_request",
        means="the server refuses this request: any other status",
        then="row",
        if_all="each of the first {count} calls failed alike, and none was answered. {where}. Change what the job "
        "asks (model.name, model.base_url, model.params), then run it again.",
        codes=frozenset({"model_not_found"}),  # with 403 it is no matter of the key
    ),
    FailureClass(
        name="no_logprobs",
        means="an answer without the logprobs asked for",
        then="row",
        billed="yes",
        ask_anew=True,
        if_all="none of the first {count} answers has the logprobs asked for. {where}. Choose a model and server that "
        "give them, ask in the server's own way with model.params, or set model.logprobs = false to do without.",
    ),
    FailureClass(
        name="no_decisions",
        means="an answer that decides none of the questions asked",
        then="row",
        billed="yes",
        ask_anew=True,
        if_all="none of the first {count} answers decides a question. {where}. Choose a model and a server that answer "
        'typed questions (model.name, model.base_url), or ask with model.endpoint = "chat" and read the label from '
        "its logprobs.",
    ),
    FailureClass(
        name="echo_ignored",
        means="a text was to be scored and the server did not",
        then="row",
        billed="yes",
        ask_anew=True,
        if_all="none of the first {count} answers scores its text: {where}.",
    ),
    FailureClass(
        name="error_body",
        means="an answer that reports an error in place of a reply, or that it is not finished",
        then="row",
        billed="maybe",
        ask_anew=True,
        if_all="each of the first {count} answers reports an error. {where}.",
    ),
    FailureClass(
        name="unforeseen",
        means="an answer over which the check of answers failed; please report it",
        then="row",
        billed="maybe",
    ),
    FailureClass(
        name="interrupted", means="the run was stopped while the server was answering", then="row", billed="maybe"
    ),
    FailureClass(
        name="claimed",
        means="another process asked for the same answer and had none after `limits.retry_for_s`",
        then="row",
    ),
    FailureClass(
        name="batch_ended",
        means="a batch expired, was cancelled or was not begun before this call was made; another batch asks it",
        then="again",
        codes=frozenset({"batch_expired", "batch_cancelled"}),
    ),
    FailureClass(
        name="batch_lost",
        means="a batch ended with neither an answer nor an error for this call, or its files are gone; another batch "
        "asks it",
        then="again",
        billed="maybe",
    ),
    FailureClass(
        name="batch_refused",
        means="the service takes no batch, or refuses the whole file of one",
        then="stop",
    ),
    FailureClass(
        name="batch_incomplete",
        means="the service says that a batch has more answers than its files hold, for ten minutes",
        then="stop",
    ),
    FailureClass(
        name="batch_unseen",
        means="the service does not show a batch that it began, as to the key of another project",
        then="stop",
    ),
    FailureClass(name="null_prompt", means="a column that the prompt needs is null", then="row"),
    FailureClass(
        name="bad_prompt",
        means="the row cannot be made a request, or only one that its model is known to refuse",
        then="row",
    ),
    FailureClass(name="replay_miss", means="no recording answers it", then="row"),
)

FAILURES: Final[Mapping[str, FailureClass]] = {kind.name: kind for kind in _CLASSES}
"""The classes by name."""

_BY_CODE: Final = {code: kind for kind in _CLASSES for code in kind.codes}
_BY_STATUS: Final = {status: kind for kind in _CLASSES for status in kind.statuses}

_FORBIDDEN: Final = 403
_PROCESSED: Final = frozenset({408, 499, 504, 524, 598})
"""Statuses that say that a call took too long or was given up: the model may have worked on it until then."""
_CONTENT_TOO_LARGE: Final = 413
_TOO_MANY_REQUESTS: Final = 429
_NO_SUCH_PATH: Final = frozenset({404, 405, 501})
_MODEL: Final = re.compile("model", re.IGNORECASE)
_REFUSED: Final = range(400, 500)
_OUT_OF_CREDIT: Final = re.compile(
    r"""[^"'`:]{0,40}?(?:balance (?:is )?(?:too low|insufficient|not enough)|insufficient (?:account )?balance"""
    r"|(?:insufficient|not enough) credits|(?:used|ran out of|run out of) (?:all )?(?:your |the |available )*credits)",
    re.IGNORECASE,
)
"""A message that begins by saying that the account has no credit left, where neither a status nor a code does. What
stands in quotes or behind a colon may be the prompt's."""
_NAMES_LOGPROBS: Final = re.compile(
    r"(?<![a-z])(?:top_?|prompt_?|n_?)?log_?prob(?:s|abilit(?:y|ies))?(?![a-z])", re.IGNORECASE
)
_NO_ROOM: Final = re.compile(
    r"resources? (?:is |are )?(?:currently |temporarily )?unavailable"
    r"|(?:insufficient|not enough) (?:resources|capacity)"
    r"|\bflex\b.{0,60}\b(?:capacity|unavailable)|capacity .{0,30}\bflex\b",
    re.IGNORECASE,
)
"""What a refusal with status 429 says that is no limit of the caller, but a want of machines for the tier `flex`."""
_ASKS_IN_WORDS: Final = "include"
"""The parameter by which Responses are asked for logprobs and other parts: what it was refused for, words say."""
_TOO_LONG: Final = re.compile(
    r"context.{0,12}(?:length|window|size)|maximum.?context|max_model_len|too many (?:input |prompt )?tokens"
    r"|string_above_max|reduce the length|`?inputs?`? (?:tokens \+|must have (?:less|fewer))"
    r"|\b(?:prompts?|inputs?|messages?|conversation)\b.{0,40}(?:too long|too large|longer than|exceed|\blength\b)",
    re.IGNORECASE,
)
_FILTERED: Final = re.compile(
    r"content.?(?:filter|policy|management|exists.?risk)|moderation|safety (?:system|reason|polic|filter|setting|check)"
    r"|flagged|inappropriate|data_inspection|prohibited.?content|guard.?rail|prompt was blocked|harmful"
    r"|violat\w* .{0,40}polic|usage polic|responsible.?ai",
    re.IGNORECASE,
)
_OF_THE_JOB: Final = re.compile(
    r"does not exist|not found|unknown (?:model|param)|unrecogni[sz]ed|unsupported|not supported|\baccount\b|api.?key",
    re.IGNORECASE,
)


def asks_anew(error_type: str | None) -> bool:
    """Whether a failed call of this class has its bad answer in the cache, so that the server has to be asked again.

    A store may hold a class that this version does not know: such a call is answered from the cache if it can be.

    >>> asks_anew("no_logprobs"), asks_anew("timeout"), asks_anew("unknown"), asks_anew(None)
    (True, False, False, False)
    """
    kind = FAILURES.get(error_type or "")
    return kind is not None and kind.ask_anew


def classify(status: int, said: Mapping[str, Any], *, endpoint: str | None = None) -> FailureClass:
    """The class of an error answer.

    A code, where there is one, takes precedence over words: one service writes "insufficient_quota" about a limit that
    passes.

    Args:
        status: the HTTP status.
        said: the `error` object of the body.
        endpoint: what was asked, as the job file names it.

    >>> classify(429, {"code": "insufficient_quota"}).name, classify(429, {"type": "insufficient_quota"}).name
    ('quota', 'rate_limit')
    >>> classify(400, {"type": "invalid_request_error", "message": "Your credit balance is too low to ..."}).name
    'quota'
    >>> classify(418, {}).name
    'invalid_request'
    >>> classify(404, {"message": "Not Found"}, endpoint="decisions").name
    'unknown_endpoint'
    """
    if refuses_logprobs(status, said):
        return FAILURES["logprobs_refused"]
    if _is_too_large(status, said):
        return FAILURES["over_limit"]
    if endpoint == "decisions" and status in _NO_SUCH_PATH and _MODEL.search(str(said)) is None:
        return FAILURES["unknown_endpoint"]
    inner = said.get("innererror")  # Azure names the content filter here
    codes = [said.get("code"), inner.get("code") if isinstance(inner, dict) else None]
    by_code = next((_BY_CODE[code] for code in codes if isinstance(code, str) and code in _BY_CODE), None)
    return by_code or _class_by_words(status, said) or _BY_STATUS.get(status) or FAILURES["invalid_request"]


def _class_by_words(status: int, said: Mapping[str, Any]) -> FailureClass | None:
    """The class of an error whose code says nothing, where its words do; None where they do not."""
    words = list(_words_of(said))
    if any(map(_OUT_OF_CREDIT.match, words)):
        return FAILURES["quota"]  # Anthropic says so with 400, Z.ai with 429, SiliconFlow and xAI with 403
    if status == _TOO_MANY_REQUESTS and any(map(_NO_ROOM.search, words)):
        return FAILURES["no_capacity"]
    if status == _FORBIDDEN and any(map(concerns_the_prompt, words)):
        return FAILURES["content_filter"]  # OpenRouter moderates with this status
    return None


def _is_too_large(status: int, said: Mapping[str, Any]) -> bool:
    """Whether one request is above the whole limit: it is refused like a rate limit, but waiting would not help."""
    if status == _CONTENT_TOO_LARGE:
        return said.get("code") == "rate_limit_exceeded"
    return status == _TOO_MANY_REQUESTS and str(said.get("message") or "").lower().startswith("request too large")


def refuses_logprobs(status: int, said: Mapping[str, Any]) -> bool:
    """Whether a refusal names logprobs: the job asks for them in a way that this model or server does not take.

    Every prompt of the job asks so, and every one would be refused.

    >>> refuses_logprobs(400, {"code": "unsupported_parameter", "param": "logprobs"})
    True
    >>> refuses_logprobs(422, {"detail": [{"loc": ["body", "top_logprobs"], "msg": "Input should be less than 6"}]})
    True
    >>> refuses_logprobs(400, {"param": "include", "message": "logprobs are not supported with reasoning models."})
    True
    >>> refuses_logprobs(400, {"message": "Unsupported value: temperature"})
    False
    """
    if status not in _REFUSED or status == _TOO_MANY_REQUESTS:
        return False
    param = said.get("param")
    if isinstance(param, str) and param and not param.startswith(_ASKS_IN_WORDS):
        return _NAMES_LOGPROBS.search(param) is not None
    return any(_NAMES_LOGPROBS.search(text) is not None for text in _words_of(said))


def _words_of(said: Mapping[str, Any]) -> Iterator[str]:
    """What a refusal says in words.

    Of a validator's list of details that is the message and the place, and never the input: some show the whole
    request, which names logprobs in any case.
    """
    metadata = said.get("metadata")
    behind = metadata.get("raw") if isinstance(metadata, dict) else None  # a gateway's, of the service behind it
    for text in (said.get("message"), said.get("detail"), behind):
        if isinstance(text, str):
            yield text
    details = said.get("detail")
    for item in details if isinstance(details, list) else ():
        if isinstance(item, dict):
            yield str(item.get("msg"))
            yield str(item.get("loc"))


def bills_refusal(error_type: str, status: int | None, message: str) -> bool:
    """Whether a call that was refused may be billed all the same, because the service worked on it.

    Azure bills prompts that its content filter refuses, those that are too long, and calls that took too long for it
    (learn.microsoft.com, "Plan and manage costs for Azure OpenAI").

    Args:
        error_type: the failure's class.
        status: of the answer; without one there was no answer, and the error itself says whether it may be billed.
        message: what the server said.

    >>> bills_refusal("content_filter", 400, ""), bills_refusal("server_error", 408, "")
    (True, True)
    >>> bills_refusal("server_error", 500, "")
    False
    """
    if status is None:
        return False
    kind = FAILURES.get(error_type)
    refused_prompt = error_type == "invalid_request" and status in _REFUSED and _names_the_prompt(message)
    return status in _PROCESSED or refused_prompt or kind is None or kind.billed != "no"


def concerns_the_prompt(message: str) -> bool:
    """Whether a refusal is for the length or the content of one prompt, so that another prompt may be taken.

    >>> concerns_the_prompt("HTTP 400 context_length_exceeded: maximum context length is 8192 tokens")
    True
    >>> concerns_the_prompt("HTTP 400: Content Exists Risk"), concerns_the_prompt("HTTP 400: max_tokens exceeds 4096")
    (True, False)
    >>> concerns_the_prompt("HTTP 404: The model `moderation-9` does not exist")
    False
    """
    return _names_the_prompt(message) and _OF_THE_JOB.search(message) is None


def _names_the_prompt(message: str) -> bool:
    return _TOO_LONG.search(message) is not None or _FILTERED.search(message) is not None


_THEN_TEXT: Final = {
    "again": "tried again, then a failure row",
    "row": "a failure row at once",
    "stop": "the run stops (exit code 4) and can be continued",
}
_IF_ALL_TEXT: Final = "; if all first calls end so, the run stops"
_PACE_TEXT: Final = {
    "": "",
    "limit": "all calls wait as long as the server says; if it says nothing, fewer at once",
    "outage": "no growth; many in a row: one call at a time until one succeeds",
}


def _billed_text(kind: FailureClass) -> str:
    if kind.billed == "no" and (statuses := sorted(kind.statuses & _PROCESSED)):
        return f"no; {', '.join(map(str, statuses))}: maybe"
    if kind.name == "invalid_request":
        return "no; a prompt that is too long: maybe"
    return kind.billed


def failures_table() -> str:
    """The classes as a Markdown table, for docs/reliability/failures.md."""
    lines = ["| class | what happened | then | the other calls | billed |", "|---|---|---|---|---|"]
    for kind in _CLASSES:
        known = [str(status) for status in sorted(kind.statuses) if status < 500] + [  # noqa: PLR2004  the rest is one word
            *(["5xx"] if 500 in kind.statuses else []),  # noqa: PLR2004
            *(f"`{code}`" for code in sorted(kind.codes)),
        ]
        means = f"{kind.means} ({', '.join(known)})" if known else kind.means
        then = _THEN_TEXT[kind.then] + (_IF_ALL_TEXT if kind.if_all else "")
        cells = (f"`{kind.name}`", means, then, _PACE_TEXT[kind.pace], _billed_text(kind))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
