"""Which files a pattern means, how they are identified, and the scan over their rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logprob_store.errors import PromptsError
from logprob_store.inputs import find_inputs, scan, unified_schema


def write(path: Path, rows: int = 1, *, row_group_size: int | None = None, first: int = 0) -> Path:
    """A Parquet file with a column `n` that counts from `first`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"n": pa.array(range(first, first + rows), pa.int64())}), path, row_group_size=row_group_size
    )
    return path


def names(pattern: str, base: Path) -> list[str]:
    """The names of the files a pattern means."""
    return [file.name for file in find_inputs(pattern, base=base)]


def test_a_file_is_found_and_described(tmp_path: Path) -> None:
    """Name, rows, size and digest are those of the file on disk."""
    path = write(tmp_path / "in/a.parquet", 3)

    (found,) = find_inputs("in/a.parquet", base=tmp_path)

    assert (found.path, found.name, found.rows) == (path, "a.parquet", 3)
    assert (found.size, found.digest) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_absolute_pattern_does_not_need_the_base(tmp_path: Path) -> None:
    """A pattern that starts at the root of the disk is taken as it is."""
    write(tmp_path / "a.parquet")

    assert names(str(tmp_path / "*.parquet"), Path("/nowhere")) == ["a.parquet"]


def test_a_folder_means_all_parquet_files_below_it_sorted(tmp_path: Path) -> None:
    """Files of any depth, by name, and nothing else that lies there."""
    for name in ("b.parquet", "a/z.parquet", "a/b/c.parquet", "part.parquet/0.parquet"):
        write(tmp_path / "in" / name)
    (tmp_path / "in/readme.md").write_text("no prompts")

    assert names("in", tmp_path) == ["a/b/c.parquet", "a/z.parquet", "b.parquet", "part.parquet/0.parquet"]


def test_hidden_and_underscored_names_are_passed_over(tmp_path: Path) -> None:
    """Spark's and editors' own files are no prompts, but a partition key may start with an underscore."""
    for name in (".a.parquet", "_b.parquet", "_temporary/c.parquet", ".git/d.parquet", "_day=1/e.parquet"):
        write(tmp_path / "in" / name)

    assert names("in", tmp_path) == names("in/**/*.parquet", tmp_path) == ["_day=1/e.parquet"]


def test_a_hidden_file_that_is_named_is_read(tmp_path: Path) -> None:
    """Naming a file, or the folder it is in, is wish enough."""
    write(tmp_path / ".in/_a.parquet")
    write(tmp_path / ".in/b.parquet")

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
    """A star is one level, two stars are any, and a folder that matches stands for its files."""
    for name in ("a", "b", "x/c"):
        write(tmp_path / f"in/{name}.parquet")

    assert names(pattern, tmp_path) == expected


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    """What exists under the exact name wins over what the pattern might match."""
    write(tmp_path / "a[1].parquet")
    write(tmp_path / "a1.parquet")

    assert names("a[1].parquet", tmp_path) == ["a[1].parquet"]


@pytest.mark.parametrize("pattern", ["in/country=fr/*.parquet", "in/country=*/*.parquet", "in", "in/country=fr"])
def test_partition_folders_are_part_of_the_name(tmp_path: Path, pattern: str) -> None:
    """However the pattern reaches a partition, its column is known and the name is the same."""
    write(tmp_path / "in/country=fr/a.parquet")

    assert names(pattern, tmp_path) == ["country=fr/a.parquet"]


def test_nothing_found_says_what_was_looked_for_and_what_is_near(tmp_path: Path) -> None:
    """The nearest folder's content is listed, the likeliest name first."""
    write(tmp_path / "prompts/zebra.parquet")
    write(tmp_path / "prompts/capitals.parquet")

    with pytest.raises(PromptsError, match=r"prompts/capital\.parquet.*holds: 'capitals\.parquet', 'zebra"):
        find_inputs("prompts/capital.parquet", base=tmp_path)
    with pytest.raises(PromptsError, match=r"prompt/\*\.parquet.*holds: 'prompts/'"):
        find_inputs("prompt/*.parquet", base=tmp_path)


@pytest.mark.parametrize("pattern", ["", "a**b/*.parquet", "x" * 300])
def test_a_pattern_that_cannot_be_one_is_a_clear_error(tmp_path: Path, pattern: str) -> None:
    """Empty, malformed and over-long patterns are the user's errors, not crashes."""
    with pytest.raises(PromptsError, match="prompts"):
        find_inputs(pattern, base=tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text and no Parquet", None])
def test_a_file_that_is_not_whole_parquet_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Empty, foreign and truncated files stop the job before it asks anything."""
    whole = write(tmp_path / "good.parquet").read_bytes()
    (tmp_path / "zbad.parquet").write_bytes(whole[:-20] if content is None else content)

    with pytest.raises(PromptsError, match=r"zbad\.parquet cannot be read as Parquet"):
        find_inputs("*.parquet", base=tmp_path)


def test_an_edit_that_leaves_the_footer_alone_changes_the_digest(tmp_path: Path) -> None:
    """One word replaced by another of its length: statistics, sizes and offsets all stay."""
    files = []
    for text in ("bbb", "bcb"):
        pq.write_table(pa.table({"t": ["aaa", text, "zzz"]}), tmp_path / "a.parquet")
        files += find_inputs("a.parquet", base=tmp_path)

    assert files[0].size == files[1].size
    assert files[0].digest != files[1].digest


def scanned(base: Path, batch_rows: int = 1000, *, skip: int = 0, limit: int | None = None) -> list[list[int]]:
    """The values of `n`, a list a batch; checks that each batch knows where it is."""
    inputs = find_inputs("*.parquet", base=base)
    batches = []
    for rows in scan(inputs, unified_schema(inputs, {"n": "n"}), skip=skip, limit=limit, batch_rows=batch_rows):
        values = rows.batch.column("n").to_pylist()
        # The tests write `n` as the index over all files.
        assert values == list(range(rows.index, rows.index + len(values)))
        batches.append(values)
    return batches


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), min_size=1, max_size=4),
    skip=st.integers(0, 40),
    limit=st.none() | st.integers(0, 40),
    batch_rows=st.integers(1, 7),
)
def test_skip_and_limit_are_slicing(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[int, int]],
    skip: int,
    limit: int | None,
    batch_rows: int,
) -> None:
    """Across files, empty files and row groups, the rows are those of a slice of all rows."""
    base = tmp_path_factory.mktemp("in")
    total = 0
    for number, (rows, row_group_size) in enumerate(files):
        write(base / f"{number}.parquet", rows, row_group_size=row_group_size, first=total)
        total += rows

    batches = scanned(base, batch_rows, skip=skip, limit=limit)

    assert [n for batch in batches for n in batch] == list(range(total))[:limit][skip:]
    assert all(0 < len(batch) <= batch_rows for batch in batches)


def test_files_and_row_groups_that_are_skipped_are_not_read(tmp_path: Path) -> None:
    """Damage in rows before `skip` and after `limit` goes unnoticed: those pages are never touched."""
    for number in range(3):
        write(tmp_path / f"{number}.parquet", 10, row_group_size=5, first=number * 10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    schema = unified_schema(inputs, {"n": "n"})
    for number, group in ((0, 0), (1, 0), (2, 1)):
        damage(tmp_path / f"{number}.parquet", group)

    rows = [n for part in scan(inputs, schema, skip=15, limit=25) for n in part.batch.column("n").to_pylist()]

    assert rows == list(range(15, 25))
    with pytest.raises(PromptsError, match=r"1\.parquet cannot be read, it may be damaged"):
        list(scan(inputs, schema, skip=10))


def damage(path: Path, group: int) -> None:
    """Zero the pages of a row group; the size and the footer stay."""
    column = pq.read_metadata(path).row_group(group).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("rows", [3, 4])
def test_a_file_that_changed_since_it_was_found_is_an_error(tmp_path: Path, rows: int) -> None:
    """Row indexes are identities: a file of other rows, as many or not, must not take their place."""
    write(tmp_path / "a.parquet", 3)
    inputs = find_inputs("*.parquet", base=tmp_path)
    schema = unified_schema(inputs, {"n": "n"})
    pq.write_table(pa.table({"n": range(rows), "more": range(rows)}), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet changed"):
        list(scan(inputs, schema))


def unified(base: Path, column: str = "x") -> pa.Field:
    """The common field of a column of all files in a folder."""
    return unified_schema(find_inputs("*.parquet", base=base), {column: "prompts.prompt"}).field(column)


def put(base: Path, *arrays: pa.Array) -> None:
    """One file an array, its column named x."""
    for number, array in enumerate(arrays):
        pq.write_table(pa.table({"x": array}), base / f"{number}.parquet")


def test_widths_of_integers_promote(tmp_path: Path) -> None:
    """int32 in one file and int64 in another are read as int64."""
    put(tmp_path, pa.array([1], pa.int32()), pa.array([2], pa.int64()))

    assert unified(tmp_path).type == pa.int64()


def test_all_encodings_of_text_go_together(tmp_path: Path) -> None:
    """Plain, large, view and dictionary text is one type to a reader."""
    kinds = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    put(tmp_path, *(pa.array([str(kind)]).cast(kind) for kind in kinds))
    inputs = find_inputs("*.parquet", base=tmp_path)

    read = [row for rows in scan(inputs, unified_schema(inputs, {"x": "x"})) for row in rows.batch["x"].to_pylist()]

    assert unified(tmp_path).type == pa.large_string()
    assert read == [str(kind) for kind in kinds]


def test_enums_with_other_categories_become_text(tmp_path: Path) -> None:
    """Two Enums are one Arrow type; keeping the first one's categories would make the second unreadable."""
    for number, categories in enumerate((["a", "b"], ["c"])):
        series = pl.Series(categories, dtype=pl.Enum(categories))
        pl.DataFrame({"x": series}).write_parquet(tmp_path / f"{number}.parquet")

    assert unified(tmp_path).type == pa.large_string()


def test_types_that_contradict_name_both_files(tmp_path: Path) -> None:
    """Text in one file and integers in another is an error with both files and both types."""
    put(tmp_path, pa.array(["1"]), pa.array([1]))

    with pytest.raises(PromptsError, match=r"'x' is string in .*0\.parquet and int64 in .*1\.parquet"):
        unified(tmp_path)


def test_a_value_that_does_not_fit_the_common_type_is_named(tmp_path: Path) -> None:
    """uint64 and int64 promote to int64; a value beyond it is an error with file, column and rows."""
    put(tmp_path, pa.array([1], pa.int64()), pa.array([1, 2**63], pa.uint64()))
    inputs = find_inputs("*.parquet", base=tmp_path)

    with pytest.raises(PromptsError, match=r"1\.parquet, column 'x', rows 0 to 1"):
        list(scan(inputs, unified_schema(inputs, {"x": "x"})))


def test_a_missing_column_is_named_with_its_use_and_the_closest_first(tmp_path: Path) -> None:
    """The error says which file, what for, and what was probably meant."""
    pq.write_table(pa.table({"id": [1], "title": ["a"], "text": ["b"]}), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet has no column 'txt' \(prompts\.prompt\); it has: 'text'"):
        unified(tmp_path, "txt")


def test_a_column_that_one_file_lacks_names_that_file(tmp_path: Path) -> None:
    """Every file must have every used column."""
    put(tmp_path, pa.array([1]))
    write(tmp_path / "1.parquet")

    with pytest.raises(PromptsError, match=r"1\.parquet has no column 'x'"):
        unified(tmp_path)


def test_a_column_that_a_file_has_twice_is_an_error(tmp_path: Path) -> None:
    """Which of the two was meant is not guessed."""
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"'x' .* more than once"):
        unified(tmp_path)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1", "-20"], [1, -20]),
        (["1", "007"], ["1", "007"]),
        (["1", "__HIVE_DEFAULT_PARTITION__"], [1, None]),
        (["C%C3%B4te", "a b"], ["Côte", "a b"]),
    ],
)
def test_partition_columns_are_read_from_the_folders(tmp_path: Path, values: list[str], read: list[object]) -> None:
    """Plain integers are integers, all else is text, with percent escapes and Hive's null understood."""
    for number, value in enumerate(values):
        write(tmp_path / f"{number}/key={value}/a.parquet", 2)
    inputs = find_inputs("**/*.parquet", base=tmp_path)

    found = [
        row for rows in scan(inputs, unified_schema(inputs, {"key": "id"})) for row in rows.batch["key"].to_pylist()
    ]

    assert found == [value for value in read for _ in range(2)]


def test_a_files_own_column_wins_over_the_folder(tmp_path: Path) -> None:
    """Data in the file is data; the folder is only a name."""
    write(tmp_path / "n=7/a.parquet", 1)
    inputs = find_inputs("**/*.parquet", base=tmp_path)

    assert [rows.batch["n"].to_pylist() for rows in scan(inputs, unified_schema(inputs, {"n": "n"}))] == [[0]]


def test_reading_without_rows_yields_nothing(tmp_path: Path) -> None:
    """An empty Parquet file is no error."""
    write(tmp_path / "a.parquet", 0)

    assert scanned(tmp_path) == []
