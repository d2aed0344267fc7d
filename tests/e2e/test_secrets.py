"""An API key is used and never kept: no file and no output of a run holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_prompts
from hostile import ECHOES, OUTCOMES

from logprob_store.cache.answers import AnswerCache

if TYPE_CHECKING:
    from pathlib import Path

KEY = "-".join(["sk", "proj", "Zq8vN3xT7rK1mW5yB9cD2fG4hJ6kL0pS"])  # noqa: FLY002  in one piece, scanners take it for a key


def texts_of(folder: Path) -> dict[str, str]:
    """The content of every file below a folder as text, with Parquet and the cache unpacked."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("ledger"):
            continue
        found[str(path)] = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            found[f"{path} rows"] = str(pl.read_parquet(path, hive_partitioning=False).to_dicts())
    with AnswerCache(folder / "cache") as cache:
        for key in list(cache.keys()):
            held = cache.get(key)
            assert held is not None
            found[f"cache {key}"] = f"{held.meta} {held.body!r}"
    return found


@pytest.mark.slow
def test_no_artifact_holds_the_key(workplace: Any, serve: Any) -> None:
    """Store, manifest, cache, fixtures and output are free of it after success, retry and refusal."""
    server = serve("--when", "word-3 =500,ok", "--when", "word-5 =400", "--when", "word-7 =reset,ok")
    job = workplace.job(server.url, prompts=12, model={"api_key_env": "MY_KEY"})
    said = []
    for words in (
        ["-v", "run", job, "--run", "r"],
        ["-v", "run", job, "--run", "r", "--json"],
        ["record", job, "--fixtures", "fx"],
        ["status", "store", "--json"],
        ["scores", "store", "-o", "scores.jsonl"],
    ):
        done = workplace.run(*words, MY_KEY=KEY)
        said.append(done.stdout + done.stderr)
    refused = serve("--script", "401*50")
    job = workplace.job(refused.url, prompts=12, model={"api_key_env": "MY_KEY"})
    done = workplace.run("-v", "run", job, "--run", "refused", MY_KEY=KEY)
    said.append(done.stdout + done.stderr)

    assert any(f"Bearer {KEY}" in str(call["headers"]) for call in server.calls())  # it was used
    assert (workplace.folder / "fx" / "job.jsonl").exists()
    assert done.returncode in {0, 4}
    assert [text for text in said if KEY in text] == []
    assert [name for name, text in texts_of(workplace.folder).items() if KEY in text] == []


@pytest.mark.slow
def test_a_key_that_the_server_repeats_is_replaced(workplace: Any, hostile: str) -> None:
    """In answers, headers, refusals and broken HTTP `[key]` stands in its place; an address loses its whole query."""
    job = workplace.job(hostile, prompts=0, attempts=2, model={"api_key_env": "MY_KEY"})
    write_prompts(workplace.folder, {"id": list(ECHOES), "word": [f"<{attack}>" for attack in ECHOES]})
    done = workplace.run("-v", "run", job, "--run", "r", MY_KEY=KEY)

    assert done.returncode == 3, done.stderr
    assert KEY not in done.stdout + done.stderr
    assert "the server wrote the API key into an answer" in done.stderr
    assert [name for name, text in texts_of(workplace.folder).items() if KEY in text] == []
    tables = workplace.tables()
    (answer,) = tables["completions"].filter(prompt_id="key_in_the_answer")["text"]
    assert answer.startswith("[key]")
    said = dict(tables["failures"].select("prompt_id", "message").iter_rows())
    assert {attack for attack, message in said.items() if "[key]" not in message} == {"key_in_a_location"}
    assert {attack for attack, outcome in OUTCOMES.items() if attack in ECHOES and outcome != "ok"} == set(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["http://me:{key}@{host}/v1", "http://{key}@{host}/v1", "http://{host}/v1?api-key={key}"]
)
def test_a_key_in_the_url_is_refused_and_not_repeated(workplace: Any, serve: Any, url: str) -> None:
    """It is an error of the job before anything is asked, and no message shows it."""
    server = serve()
    host = server.url.removeprefix("http://").removesuffix("/v1")
    job = workplace.job(url.format(key=KEY, host=host), prompts=2)

    done = [workplace.run("-v", "run", job, "--run", "r"), workplace.run("record", job, "--fixtures", "fx")]
    done.append(workplace.run("run", job, "--dry-run"))

    assert [(one.returncode, "model.base_url holds" in one.stderr) for one in done[:2]] == [(2, True)] * 2
    assert [one for one in done if KEY in one.stdout + one.stderr] == []
    assert server.calls() == []
    job.unlink()
    assert [name for name, text in texts_of(workplace.folder).items() if KEY in text] == []
