"""Which files a pattern matches, and how each is identified."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompts.parquet_files import write_numbers

from logprob_store.errors import PromptsError
from logprob_store.prompts.input_files import find_inputs


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
