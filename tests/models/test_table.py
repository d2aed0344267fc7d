"""The table of models: names are found as services spell them, and whoever knows better is heard first."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from openai.types.shared import chat_model

from logprob_store.errors import JobError
from logprob_store.models.table import Takes, read_table, shipped_table
from logprob_store.request import PATHS

TABLE = shipped_table()
OPENROUTER = "https://openrouter.ai/api/v1"
AZURE = "https://mine.openai.azure.com"


@pytest.mark.parametrize(
    ("name", "logprobs"),
    [
        ("gpt-6-luna", "without reasoning"),
        ("gpt-6-astra", "no"),
        ("gpt-6.2-sol", "no"),
        ("gpt-5.4-mini-2026-03-17", "without reasoning"),
        ("gpt-5-2025-08-07", "no"),
        ("gpt-5.2-pro", "no"),
        ("gpt-5.1-codex-max", "no"),
        ("gpt-4o-2024-11-20", "yes"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "yes"),
        ("o3", "no"),
    ],
)
def test_names_of_openai(name: str, logprobs: str) -> None:
    """As they are, with a date, and as a model was tuned from."""
    known = TABLE.known(name, base_url=None)

    assert known is not None
    assert (known.name, known.takes.logprobs) == (name, logprobs)


@pytest.mark.parametrize("name", ["openai/gpt-6-astra", "openai/gpt-6-astra:nitro", "openai/gpt-6-astra:floor"])
def test_names_of_openrouter(name: str) -> None:
    """The maker goes before the name, and the choice of a server behind it."""
    known = TABLE.known(name, base_url=OPENROUTER)

    assert known is not None
    assert known.takes.logprobs == "no"


@pytest.mark.parametrize(
    ("name", "base_url"),
    [
        ("gpt-7", None),
        ("gpt-4o-mini-of-mine", None),
        ("gpt-6-astra", "http://localhost:8000/v1"),
        ("openai/gpt-6-astra", "https://gateway.example.org/v1"),
        ("google/gemma-4", OPENROUTER),
        ("my-deployment", AZURE),
        ("gemma", "http://127.0.0.1:11434/v1"),
    ],
)
def test_what_is_not_known_is_asked_as_it_is(name: str, base_url: str | None) -> None:
    """A server of somebody's own may call its model as it likes."""
    assert TABLE.known(name, base_url=base_url) is None


@pytest.mark.parametrize("base_url", [AZURE, "https://proxy.example.org"])
def test_a_deployment_of_azure_that_is_called_like_its_model(base_url: str) -> None:
    """Also behind an address that does not say so, where the job asks for Azure."""
    known = TABLE.known("gpt-6-luna", base_url=base_url, azure=True)

    assert known is not None
    assert known.service is not None
    assert known.service.name == "Azure"


def test_a_snapshot_with_a_shutdown_of_its_own() -> None:
    """gpt-4o-2024-05-13 goes before the other gpt-4o."""
    shutdowns = [TABLE.find(name).shutdown for name in ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06")]  # type: ignore[union-attr]

    assert shutdowns == [date(2026, 10, 23), date(2027, 1, 14)]


def test_a_job_says_what_its_model_is_like() -> None:
    """A deployment, or a gateway, whose names nobody else knows; other keys go before what it is like."""
    takes = Takes(like="gpt-6-luna", most_top_logprobs=5)
    known = TABLE.known("classifier", base_url=AZURE, azure=True, takes=takes)

    assert known is not None
    assert (known.takes.logprobs, known.takes.most_top_logprobs) == ("without reasoning", 5)


def test_a_job_says_that_its_model_takes_anything() -> None:
    """The table may be out of date."""
    assert TABLE.known("gpt-6-astra", base_url=None, takes=Takes.model_validate("anything")) is None


def test_a_job_corrects_one_fact() -> None:
    """What it leaves open stays as the table has it."""
    known = TABLE.known("gpt-6-astra", base_url=None, takes=Takes(logprobs="yes"))

    assert known is not None
    assert (known.takes.logprobs, known.takes.reasons) == ("yes", "always")


def test_one_fact_at_a_service_that_gives_none() -> None:
    """The others stay."""
    known = TABLE.known("m", base_url="https://api.groq.com/openai/v1", takes=Takes(context=5))

    assert known is not None
    assert (known.takes.logprobs, known.takes.context) == ("no", 5)


def test_like_a_model_that_is_not_known() -> None:
    """It is an error that says where the names are."""
    with pytest.raises(JobError, match="like = 'gpt-60': no model of the table is called so; `logprobs models` shows"):
        TABLE.known("m", base_url=None, takes=Takes(like="gpt-60"))


def test_rows_of_the_users_own(tmp_path: Path) -> None:
    """They go before those of the package, and hold for any server."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[models]]\nnames = ["house-*"]\nlike = "gpt-6-luna"\ncontext = 1000\n'
        '[[models]]\nnames = ["gpt-6-astra"]\nlogprobs = "yes"\n',
        encoding="utf-8",
    )
    table = read_table(path)
    house = table.known("house-1", base_url="http://127.0.0.1:1/v1")
    astra, luna = table.find("gpt-6-astra"), table.find("gpt-6-luna")

    assert house is not None
    assert astra is not None
    assert luna is not None
    assert (house.takes.logprobs, house.takes.context) == ("without reasoning", 1000)
    assert (astra.logprobs, luna.logprobs) == ("yes", "without reasoning")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[models]]\nnames = ['a']\nlogprob = 'no'\n", "models[0].logprob: unknown key"),
        ("[[models]]\nlogprobs = 'no'\n", "models[0].names: is missing"),
        ("[[models]]\nnames = 'a'\n", 'models[0].names: has to be a list, as ["one", "two"], not "a"'),
        ("[[models]]\nnames = ['a']\ncontext = true\n", "models[0].context: has to be a whole number, not true"),
        ("[[models]]\nnames = ['a']\nshutdown = 'soon'\n", "models[0].shutdown: has to be a day, as 2027-01-14"),
        ("[[models]\n", "is no TOML"),
    ],
)
def test_a_table_that_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    """The file and the place are named."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(JobError, match=f"{re.escape(str(path))}.*{re.escape(said)}"):
        read_table(path)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    """It is a mistake in the job."""
    with pytest.raises(JobError, match=r"no\.toml cannot be read: No such file"):
        read_table(tmp_path / "no.toml")


def test_every_row_has_a_source_and_a_date() -> None:
    """A fact that nobody can look up again is none."""
    rows = [*TABLE.models, *TABLE.services]

    assert [row for row in rows if not row.source.startswith("https://") or row.checked is None] == []


def test_every_row_can_be_reached() -> None:
    """No row hides another, and what rows name is in the table."""
    for row in TABLE.models:
        for name in row.names:
            assert TABLE.find(name) == row, name
        assert row.successor is None or TABLE.find(row.successor) is not None
    named = {
        endpoint for service in TABLE.services for endpoint in (*service.most_top_logprobs, *service.fewest_output)
    }
    assert named <= set(PATHS)
    assert TABLE.find(TABLE.instead) is not None


def announced_shutdowns() -> dict[str, date]:
    """The shutdowns that OpenAI's SDK has beside the names of its chat models."""
    text = Path(chat_model.__file__).read_text(encoding="utf-8").partition("Deprecated values:")[2]
    found = {}
    for names, day in re.findall(r'- ((?:"[^"]+",?\s+)*"[^"]+"):\s+Announced\s+shutdown\s+date:\s+(\S+?)\.\s', text):
        found |= dict.fromkeys(re.findall(r'"([^"]+)"', names), date.fromisoformat(day))
    return found


def test_shutdowns_are_those_that_the_sdk_announces() -> None:
    """Where both say one; the SDK is renewed more often than this table."""
    announced = announced_shutdowns()
    ours = {name: row.shutdown for name in announced if (row := TABLE.find(name)) is not None and row.shutdown}

    assert len(ours) > 20
    assert ours == {name: announced[name] for name in ours}
