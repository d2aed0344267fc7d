"""Which files a pattern matches, and how each is identified."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import REPO, write_job, write_prompts
from prompts.parquet_files import write_numbers

import logprob_store as ls
from logprob_store.errors import PromptsError
from logprob_store.prompts.input_files import find_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator


def names(pattern: str, base: Path) -> list[str]:
    """The names of the files that a pattern matches."""
    return [file.name for file in find_inputs(pattern, base=base)]


def test_a_file_is_found_and_described(tmp_path: Path) -> None:
    """Name, rows, size and digest are those of the file on disk."""
    path = write_numbers(tmp_path / "in/a.parquet", 3)

    (found,) = find_inputs("in/a.parquet", base=tmp_path)

    assert (found.path, found.name, found.rows) == (path, "a.parquet", 3)
    assert (found.size, found.digest) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_absolute_pattern_does_not_need_the_base(tmp_path: Path) -> None:
    """An absolute pattern does not start from the base folder."""
    write_numbers(tmp_path / "a.parquet")

    assert names(str(tmp_path / "*.parquet"), Path("/nowhere")) == ["a.parquet"]


def test_a_folder_means_all_parquet_files_below_it_sorted(tmp_path: Path) -> None:
    """Parquet files of any depth are found, and no other files."""
    for name in ("b.parquet", "a/z.parquet", "a/b/c.parquet", "part.parquet/0.parquet"):
        write_numbers(tmp_path / "in" / name)
    (tmp_path / "in/readme.md").write_text("no prompts")

    assert names("in", tmp_path) == ["a/b/c.parquet", "a/z.parquet", "b.parquet", "part.parquet/0.parquet"]


def test_a_store_among_the_prompts_is_passed_over(tmp_path: Path) -> None:
    """What came of the prompts is not asked again, unless the path leads into the store; other folders are read."""
    for name in ("a.parquet", "runs/b.parquet", "out/prompts/run=r/c.parquet", "x/out/tokens/run=r/d.parquet"):
        write_numbers(tmp_path / name)
    for store in ("out", "x/out"):
        (tmp_path / store / "runs/run=r").mkdir(parents=True)
        (tmp_path / store / "runs/run=r/run.json").write_text("{}")

    assert names(".", tmp_path) == names("**/*.parquet", tmp_path) == ["a.parquet", "runs/b.parquet"]
    assert names("out/prompts", tmp_path) == ["run=r/c.parquet"]


def test_the_second_run_over_the_folder_of_its_store(tmp_path: Path) -> None:
    """A job whose prompts, cache and store share a folder is run again."""
    write_prompts(tmp_path, {"text": ["q"]})
    fixtures = REPO / "fixtures"
    job = ls.load_job(
        write_job(tmp_path, prompts={"path": "."}, transport={"kind": "replay", "fixtures": str(fixtures)})
    )

    assert [ls.run_job(job, run=run).total for run in ("one", "one", "two")] == [1, 1, 1]


def test_hidden_and_underscored_names_are_passed_over(tmp_path: Path) -> None:
    """Files of Spark and of editors are no prompts, but a partition key may start with an underscore."""
    for name in (".a.parquet", "_b.parquet", "_temporary/c.parquet", ".git/d.parquet", "_day=1/e.parquet"):
        write_numbers(tmp_path / "in" / name)

    assert names("in", tmp_path) == names("in/**/*.parquet", tmp_path) == ["_day=1/e.parquet"]


def test_a_hidden_file_that_is_named_is_read(tmp_path: Path) -> None:
    """A hidden file is read if the pattern names it or its folder."""
    write_numbers(tmp_path / ".in/_a.parquet")
    write_numbers(tmp_path / ".in/b.parquet")

    assert names(".in/_a.parquet", tmp_path) == ["_a.parquet"]
    assert names(".in/*.parquet", tmp_path) == ["b.parquet"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.parquet", ["a.parquet", "b.parquet"]),
        ("in/**/*.parquet", ["a.parquet", "b.parquet", "x/c.parquet"]),
        ("in/**", ["a.parquet", "b.parquet", "x/c.parquet"]),
        ("in/[bc].parquet", ["b.parquet"]),
        ("in/?", ["x/c.parquet"]),
        ("./in/x/../a.parquet", ["a.parquet"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    """A star matches one level, two stars any depth, and a folder that matches stands for its files."""
    for name in ("a", "b", "x/c"):
        write_numbers(tmp_path / f"in/{name}.parquet")

    assert names(pattern, tmp_path) == expected


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    """A file with the exact name takes precedence over the glob."""
    write_numbers(tmp_path / "a[1].parquet")
    write_numbers(tmp_path / "a1.parquet")

    assert names("a[1].parquet", tmp_path) == ["a[1].parquet"]


@pytest.mark.parametrize("pattern", ["in/country=fr/*.parquet", "in/country=*/*.parquet", "in", "in/country=fr"])
def test_partition_folders_are_part_of_the_name(tmp_path: Path, pattern: str) -> None:
    """Whatever the pattern, the partition column is known and the name is the same."""
    write_numbers(tmp_path / "in/country=fr/a.parquet")

    assert names(pattern, tmp_path) == ["country=fr/a.parquet"]


def test_a_pattern_without_match_lists_the_nearest_names(tmp_path: Path) -> None:
    """The error names what was looked for and lists the nearest folder, the most similar name first."""
    write_numbers(tmp_path / "prompts/zebra.parquet")
    write_numbers(tmp_path / "prompts/capitals.parquet")

    with pytest.raises(PromptsError, match=r"prompts/capital\.parquet.*holds: 'capitals\.parquet', 'zebra"):
        find_inputs("prompts/capital.parquet", base=tmp_path)
    with pytest.raises(PromptsError, match=r"prompt/\*\.parquet.*holds: 'prompts/'"):
        find_inputs("prompt/*.parquet", base=tmp_path)


@pytest.mark.parametrize("pattern", ["", "a**b/*.parquet", "x" * 300])
def test_an_invalid_pattern_is_a_clear_error(tmp_path: Path, pattern: str) -> None:
    """Empty, malformed and overlong patterns are errors of the user, not crashes."""
    with pytest.raises(PromptsError, match="prompts"):
        find_inputs(pattern, base=tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text and no Parquet", None])
def test_a_file_that_is_no_whole_parquet_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Empty, foreign and truncated files stop the job before it asks anything."""
    whole = write_numbers(tmp_path / "good.parquet").read_bytes()
    (tmp_path / "zbad.parquet").write_bytes(whole[:-20] if content is None else content)

    with pytest.raises(PromptsError, match=r"zbad\.parquet cannot be read as Parquet"):
        find_inputs("*.parquet", base=tmp_path)


def test_an_edit_that_leaves_the_footer_alone_changes_the_digest(tmp_path: Path) -> None:
    """Replacing a word by another of its length changes neither statistics nor sizes nor offsets."""
    files = []
    for text in ("bbb", "bcb"):
        pq.write_table(pa.table({"t": ["aaa", text, "zzz"]}), tmp_path / "a.parquet")
        files += find_inputs("a.parquet", base=tmp_path)

    assert files[0].size == files[1].size
    assert files[0].digest != files[1].digest


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder of prompts of its own, with one that is linked into it."""
    write_numbers(tmp_path / "prompts/own/a.parquet")
    write_numbers(tmp_path / "far/day=1/b.parquet")
    (tmp_path / "prompts/far").symlink_to("../far")
    return tmp_path


@pytest.mark.parametrize("pattern", ["prompts", "prompts/**", "prompts/**/*.parquet", "prompts/**/?.parquet"])
def test_linked_folders_are_read(linked: Path, pattern: str) -> None:
    """A folder on a shared disk or of a build system counts like any other."""
    assert names(pattern, linked) == ["far/day=1/b.parquet", "own/a.parquet"]


def test_a_folder_that_two_links_name_is_read_under_both(linked: Path) -> None:
    """Each name is a match of its own, as it is without links."""
    (linked / "prompts/again").symlink_to("../far")

    assert names("prompts", linked) == ["again/day=1/b.parquet", "far/day=1/b.parquet", "own/a.parquet"]


@pytest.mark.parametrize("pattern", ["prompts", "prompts/**/*.parquet"])
@pytest.mark.parametrize("target", [".", "..", "own", "/"])
def test_a_link_to_a_folder_above_it_is_named(linked: Path, pattern: str, target: str) -> None:
    """Following it would never end."""
    (linked / "prompts/own/loop").symlink_to("../own" if target == "own" else target)

    with pytest.raises(PromptsError, match=r"own/loop is reached by a link to a folder above it"):
        find_inputs(pattern, base=linked)


def test_links_to_each_other_are_named(linked: Path) -> None:
    """Two folders that link to each other have no end either."""
    (linked / "prompts/own/far").symlink_to("../../far")
    (linked / "far/own").symlink_to("../prompts/own")

    with pytest.raises(PromptsError, match="is reached by a link to a folder above it"):
        find_inputs("prompts", base=linked)


@pytest.mark.parametrize("name", ["gone.parquet", "gone"])
@pytest.mark.parametrize("pattern", ["prompts", "prompts/**/*.parquet", "prompts/*/*"])
def test_a_link_to_nothing_is_named(linked: Path, pattern: str, name: str) -> None:
    """It may stand for prompts that were not fetched, or for a disk that is not mounted."""
    (linked / "prompts/own" / name).symlink_to("nowhere")

    with pytest.raises(PromptsError, match=rf"own/{name} is a link to nowhere, which is not there"):
        find_inputs(pattern, base=linked)


def test_a_link_to_nothing_that_is_the_path_itself_is_named(tmp_path: Path) -> None:
    """The error does not say that there is nothing of that name."""
    (tmp_path / "a.parquet").symlink_to("nowhere")

    with pytest.raises(PromptsError, match=r"a\.parquet is a link to nowhere, which is not there"):
        find_inputs("a.parquet", base=tmp_path)


def test_hidden_links_are_passed_over(linked: Path) -> None:
    """Like hidden files: those of editors are links to nothing."""
    (linked / "prompts/.#a.parquet").symlink_to("user@machine.1234")

    assert len(names("prompts", linked)) == 2


@pytest.mark.parametrize("pattern", ["prompts", "prompts/*/*.parquet", "prompts/own/pipe.parquet"])
def test_what_is_neither_file_nor_folder_is_named(linked: Path, pattern: str) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(linked / "prompts/own/pipe.parquet")

    with pytest.raises(PromptsError, match=r"pipe\.parquet is neither a file nor a folder"):
        find_inputs(pattern, base=linked)


@pytest.mark.parametrize("pattern", ["prompts", "prompts/**/*.parquet", "prompts/*/*.parquet"])
def test_a_folder_that_cannot_be_read_is_named(linked: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """There may be prompts in it."""
    really = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "own":
            raise PermissionError(13, "Permission denied")
        return really(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)

    with pytest.raises(PromptsError, match=r"prompts/own cannot be read \(Permission denied\)"):
        find_inputs(pattern, base=linked)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LFS, "it is a Git LFS pointer, which stands for the file: `git lfs pull`"),
        (b"\xef\xbb\xbf" + LFS, "it is a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s12--4d7a.parquet\n", "it is a git-annex pointer: `git annex get`"),
        (b"\x1f\x8b\x08\x00", "it is compressed with gzip"),
        (b"PK\x03\x04", "it is a zip file"),
        (b"ARROW1\0\0", "it is an Arrow IPC"),
        (b"<!DOCTYPE html>", "it is a web page"),
        (b"", "it is empty"),
    ],
)
def test_a_file_that_is_something_else_says_what(tmp_path: Path, content: bytes, what: str) -> None:
    """One sentence, which also says what to do."""
    (tmp_path / "a.parquet").write_bytes(content)

    with pytest.raises(PromptsError, match=rf"a\.parquet cannot be read as Parquet: {what}"):
        find_inputs("a.parquet", base=tmp_path)


def test_a_json_file_says_how_to_convert_it(tmp_path: Path) -> None:
    """The command is that of polars, which is installed with this package."""
    (tmp_path / "a.json").write_text('[{"id": 1}]', encoding="utf-8")

    with pytest.raises(PromptsError, match=r"`pl\.read_json\(PATH\)\.write_parquet"):
        find_inputs("a.json", base=tmp_path)


@pytest.mark.parametrize(
    "url", ["https://example.org/a.parquet", "s3://bucket/a/*.parquet", "hf://datasets/a/b", "file:///a"]
)
def test_a_url_says_that_files_are_read(tmp_path: Path, url: str) -> None:
    """The error names the whole URL, not a path below the job's folder."""
    with pytest.raises(PromptsError, match=f"{re.escape(repr(url))} is a URL, and prompts are read from files"):
        find_inputs(url, base=tmp_path)
