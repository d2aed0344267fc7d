"""A server that attacks its clients: each attack is a failure of its own prompt or an answer, and harms no other."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_job, write_prompts
from e2e.peak_memory import wait_for_peak
from hostile import ATTACKS, ESCAPES, OUTCOMES

if TYPE_CHECKING:
    from pathlib import Path

# What a terminal would obey: C0 and C1 controls but for line breaks and tabs, and what turns the direction of text.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def ask(workplace: Any, url: str, texts: dict[str, str], *, attempts: int = 2, most: int = 24 << 20) -> Path:
    """Write a job that asks these texts, given by prompt id."""
    write_prompts(workplace.folder, {"id": list(texts), "text": list(texts.values())})
    return write_job(
        workplace.folder,
        url,
        prompts={"id": "id"},
        model={"provider": "test", "top_logprobs": 1, "params": {"max_tokens": 3}},
        limits={"attempts": attempts, "timeout_s": 60, "max_answer_bytes": most},
    )


def start(workplace: Any, *words: str | Path) -> subprocess.Popen[str]:
    """Start the program with its output in a file, because nothing reads a pipe meanwhile."""
    with (workplace.folder / "said").open("w") as said:
        return subprocess.Popen([workplace.program, *words], cwd=workplace.folder, stdout=said, stderr=said, text=True)


def test_every_attack_has_an_outcome() -> None:
    """Attacks and outcomes have the same names."""
    assert set(OUTCOMES) == ATTACKS


@pytest.mark.slow
def test_attacks_harm_no_other_prompt(workplace: Any, hostile: str) -> None:
    """Each attack ends as its failure class or as an answer; other prompts are answered, in bounded time and memory."""
    texts = {attack: f"<{attack}>" for attack in OUTCOMES} | {f"honest-{n}": f"Say {n}" for n in range(30)}
    job = ask(workplace, hostile, texts)

    code, most_bytes = wait_for_peak(start(workplace, "-v", "run", job, "--run", "r"))

    said = (workplace.folder / "said").read_text()
    assert code == 3, said
    assert OBEYED.findall(said) == []
    tables = workplace.tables()
    failed = dict(tables["failures"].select("prompt_id", "error_type").iter_rows())
    assert failed == {attack: outcome for attack, outcome in OUTCOMES.items() if outcome != "ok"}
    expected = {attack for attack, outcome in OUTCOMES.items() if outcome == "ok"} | {f"honest-{n}" for n in range(30)}
    assert set(tables["completions"]["prompt_id"]) == expected
    billed = dict(tables["failures"].select("prompt_id", "maybe_billed").iter_rows())
    unpaid = {attack for attack, maybe in billed.items() if not maybe}
    assert unpaid == {"endless_refusal", "key_in_a_refusal", "key_escaped", "key_in_a_location"}
    # An idle run has some 250 MiB; 24 MiB may be an answer, and two large ones are read at a time.
    assert most_bytes < 800 << 20
    lengths = {"long_token": 1, "many_tokens": 100_000, "nulls": 2, "surrogates": 3, "escapes": 1}
    counts = dict(tables["completions"].select("prompt_id", "token_count").iter_rows())
    assert {attack: counts[attack] for attack in lengths} == lengths
    (escapes,) = tables["completions"].filter(pl.col("prompt_id") == "escapes")["text"]
    assert escapes == ESCAPES  # as it came; only what is shown is made harmless


@pytest.mark.slow
def test_hostile_answers_are_shown_harmlessly(workplace: Any, hostile: str) -> None:
    """No command prints control characters of tokens or prompts to a terminal."""
    names = ["escapes", "nulls", "surrogates", "long_token"]
    texts = {f"{name}\x1b[31m": f"<{name}> \x1b[2J" for name in names} | {f"../../{ESCAPES}": "honest"}
    job = ask(workplace, hostile, texts)
    assert workplace.run("run", job, "--run", "r").returncode == 0

    shown = [workplace.run("show", "store", prompt_id) for prompt_id in texts]
    shown += [workplace.run(*words) for words in (["status", "store"], ["scores", "store"], ["verify", "store"])]
    shown += [workplace.run("show", "store", "no\x1b[31m such")]

    assert [done.returncode for done in shown] == [0] * (len(texts) + 3) + [2]
    assert [OBEYED.findall(done.stdout + done.stderr) for done in shown] == [[]] * len(shown)
    assert not [path for path in workplace.folder.parent.glob("*") if "evil" in path.name]


@pytest.mark.slow
def test_sixty_four_bombs_at_once(workplace: Any, hostile: str) -> None:
    """64 bombs of 64 MiB each are counted two at a time, up to the limit, and given up before they are in memory."""
    honest = {f"h{n}": f"Say {n}" for n in range(100)}  # so many answers let 64 calls start
    bombs = {f"b{n}": f"<gzip_bomb> {n}" for n in range(64)}
    job = ask(workplace, hostile, honest | bombs, attempts=1, most=48 << 20)

    code, most_bytes = wait_for_peak(start(workplace, "run", job, "--run", "r"))

    assert code == 3
    assert workplace.tables()["failures"]["error_type"].to_list() == ["too_large"] * 64
    # An idle run has some 250 MiB, and one bomb of 64 of them would add 48.
    assert most_bytes < 400 << 20


@pytest.mark.slow
def test_planted_links_are_not_followed(workplace: Any, serve: Any) -> None:
    """Links among the files of the store and cache leave the files that they point to as they were."""
    job = ask(workplace, serve().url, {"a": "one"})
    victim = workplace.folder / "victim"
    victim.write_text("precious")
    planted = ["store/runs/run=r/lock", "store/tokens/run=r/part-00000.parquet", "cache/claims.lock"]
    for name in planted:
        (workplace.folder / name).parent.mkdir(parents=True)
        (workplace.folder / name).symlink_to(victim)

    done = workplace.run("run", job, "--run", "r")

    assert done.returncode == 0, done.stderr
    assert victim.read_text() == "precious"
    assert workplace.tables()["tokens"].height == 3

    (workplace.folder / "cache" / "cache.db").unlink()
    (workplace.folder / "cache" / "cache.db").symlink_to(victim)
    again = workplace.run("run", job, "--run", "s")

    assert again.returncode == 2
    assert "cache" in again.stderr
    assert victim.read_text() == "precious"
