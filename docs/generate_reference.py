"""Writes what the docs take from the code: the pages of docs/metrics/, the public names, failures and events.

    make docs    # or: .venv/bin/python docs/generate_reference.py

`logprob_store/__init__.pyi` lists the public names; pages and modules follow its order. Each folder of
`logprob_store/metrics/` is a page, each of its modules a section. The first line of a module's docstring is a heading
and, after a colon, a sentence. docs/metrics/README.md is written by hand. Other pages have a block between two markers.
A test holds all of them to the code.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from docstring_markdown import Links, markdown, prose, range_of, signature, summary

import logprob_store as ls
from logprob_store.events import events_table
from logprob_store.failure_policy import failures_table
from logprob_store.metrics.engine.catalogue import SCORES
from logprob_store.store.column_meanings import MEANINGS, columns_as_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

DOCS: Final = Path(__file__).parent
PACKAGE: Final = Path(ls.__file__).parent
HEAD: Final = "<!-- Written by `make docs` from the docstrings. Change those, not this page. -->\n\n"

PAGE_OF_MODULE: Final = {"engine": "scores", "arguments": "scores"}
"""Pages that are not named after their folder or module in `logprob_store/metrics/`."""

SCORES_PAGE: Final = "Scores of completions: one row each, with metrics that are chosen by name."
"""The head of the page of `engine`, whose own docstring is for authors."""


class Name(NamedTuple):
    """A public name: the heading it stands under in the stub, and the module that defines it."""

    heading: str
    module: str
    name: str

    @property
    def page(self) -> str | None:
        """The page in docs/metrics/ that describes it, None for what is no metric."""
        parts = self.module.split(".")
        return PAGE_OF_MODULE.get(parts[2], parts[2]) if parts[1] == "metrics" else None


def public_names() -> list[Name]:
    """The names of the stub, in its order.

    >>> public_names()[0]
    Name(heading='Ask a model', module='.job', name='Job')
    """
    heading, names = "", []
    for line in (PACKAGE / "__init__.pyi").read_text(encoding="utf-8").split("\n\n", 1)[1].splitlines():
        if line.startswith("# "):
            heading = line.removeprefix("# ")
        elif line.startswith("from"):
            words = line.split()
            names.append(Name(heading, words[1], words[-1]))
    return names


NAMES: Final = public_names()
PAGE_OF: Final = {name.name: name.page for name in NAMES if name.page}
PAGES: Final = tuple(dict.fromkeys(PAGE_OF.values()))
PUBLIC: Final = {name.name for name in NAMES}
MODULES: Final = {path.stem for path in (*PACKAGE.glob("*.py"), *PACKAGE.glob("metrics/**/*.py"))} - PUBLIC
"""The modules that docstrings of metrics may name."""


def module_of(name: Name) -> ModuleType:
    """The module that defines a name."""
    return import_module(f"logprob_store{name.module}")


def what_it_is(name: Name) -> str:
    """One sentence: the first paragraph of a docstring, or what stands below a constant."""
    thing = getattr(ls, name.name)
    if callable(thing):
        return summary(thing)
    statements = itertools.pairwise(ast.parse(inspect.getsource(module_of(name))).body)
    return next(
        str(ast.literal_eval(below.value))
        for node, below in statements
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name.name and isinstance(below, ast.Expr)
    )


# The pages of docs/metrics/


def page_text(page: str) -> str:
    """A page of docs/metrics/."""
    names, links = names_of(page), Links(PAGE_OF, page)
    modules = list(dict.fromkeys(module_of(name) for name in names))
    doc = SCORES_PAGE if page == "scores" else import_module(f"logprob_store.metrics.{page}").__doc__ or ""
    how = "How to use metrics, and what holds for all of them: [README.md](README.md)."
    parts = [f"{HEAD}# {headed(doc, links)}", how, contents(names, links)]
    for module in modules:
        is_engine = ".engine." in module.__name__  # its docstring is for authors
        if len(modules) > 1 and not is_engine:
            parts.append(f"## {headed(module.__doc__ or '', links)}")
        parts += [entry(name, links._replace(own=name.name)) for name in names if module_of(name) == module]
        if is_engine:
            parts.append(scores_by_name(links))
    return "\n\n".join(parts) + "\n"


def names_of(page: str) -> list[Name]:
    """The names of a page: modules in the stub's order; in each, first functions, then classes, as they are defined."""
    names = [name for name in NAMES if name.page == page]
    modules = list(dict.fromkeys(name.module for name in names))
    modules.sort(key=lambda module: module == ".metrics.arguments")  # after the scores

    def place(name: Name) -> tuple[int, bool, int]:
        thing, defined = getattr(ls, name.name), list(vars(module_of(name)))
        return modules.index(name.module), inspect.isclass(thing), defined.index(name.name)

    return sorted(names, key=place)


def headed(doc: str, links: Links) -> str:
    r"""A docstring of a module or a folder: the first line up to its colon as a heading, the rest as prose.

    Sentences that name a module are for authors, and left out.

    >>> headed("Windows: means over time.\n\nOrder matters. Sums are in `sequence`.", Links({}, "tokens"))
    'Windows\n\nMeans over time.\n\nOrder matters.'
    """
    first, *rest = [" ".join(text.split()) for text in inspect.cleandoc(doc).split("\n\n")]
    title, _, lead = first.rstrip(".").partition(": ")
    texts = [f"{lead[:1].upper()}{lead[1:]}." if lead else "", *map(_for_readers, rest)]
    return "\n\n".join(prose(text, links) for text in [title, *texts] if text)


def _for_readers(text: str) -> str:
    sentences = re.split(r"(?<=\.) (?=[A-Z`])", text)
    return " ".join(one for one in sentences if MODULES.isdisjoint(re.findall(r"`(?:\w+\.)?(\w+)`", one)))


def contents(names: Sequence[Name], links: Links) -> str:
    """The table on top of a page."""
    rows = ["| name | what it is | range |", "|---|---|---|"]
    for name in names:
        thing = getattr(ls, name.name)
        texts = (what_it_is(name), range_of(thing) if callable(thing) else "a constant")
        cells = [prose(text, links._replace(own=name.name)).replace("|", "\\|") for text in texts]
        rows.append(f"| [`{name.name}`](#{name.name.lower()}) | {' | '.join(cells)} |")
    return "\n".join(rows)


def entry(name: Name, links: Links) -> str:
    """The part of a page that describes one name."""
    thing = getattr(ls, name.name)
    if not callable(thing):
        return f"### {name.name}\n\n`{thing!r}`. {prose(what_it_is(name), links)}"
    parts = [f"### {name.name}", described(name.name, thing, links)]
    if inspect.isclass(thing):
        parts += _members(thing, links)
    elif (kind := _returned(thing, module_of(name))) is not None:
        parts += [f"Returns `{kind.__name__}`:", described(kind.__name__, kind, links)]
    return "\n\n".join(parts)


def described(name: str, thing: Any, links: Links) -> str:
    """The signature and the docstring of a function or a class."""
    return f"```py\n{signature(name, thing)}\n```\n\n{markdown(inspect.getdoc(thing) or '', links)}"


def _members(kind: type, links: Links) -> list[str]:
    parts = []
    for name, value in vars(kind).items():
        if not name.startswith("_") and isinstance(value, property):
            parts.append(f"**`{kind.__name__}.{name}`**: {summary(value)}")
        elif not name.startswith("_") and inspect.isfunction(value):
            parts.append(described(f"{kind.__name__}.{name}", value, links))
    return parts


def _returned(function: Any, module: ModuleType) -> type | None:
    """What a function returns, where that is a class of its module that has no public name."""
    kind = getattr(module, str(inspect.signature(function).return_annotation), None)
    is_own = inspect.isclass(kind) and kind.__module__ == module.__name__ and kind.__name__ not in PUBLIC
    return kind if is_own else None


def scores_by_name(links: Links) -> str:
    """The names that `scores(metrics=[...])` and `logprobs scores --metrics` take."""
    rows = ["## Scores by name", "", "`metrics=[...]` and `logprobs scores --metrics A,B,...` take these names.", ""]
    rows += ["| name | what it is | by default |", "|---|---|---|"]
    for score in SCORES.values():
        name = f"[`{score.name}`]({links.address(score.metric.__name__)})"
        rows.append(f"| {name} | {prose(score.summary, links)} | {'yes' if score.default else ''} |")
    return "\n".join(rows)


# Blocks in pages that are written by hand


def names_text() -> str:
    """The public names for docs/README.md, below the headings of the stub."""
    lines: list[str] = []
    for heading, names in itertools.groupby(NAMES, key=lambda name: name.heading):
        lines += [f"**{heading}**", "", *map(_index_line, names), ""]
    return "\n".join(lines)


def _index_line(name: Name) -> str:
    link = f"[`{name.name}`](metrics/{name.page}.md#{name.name.lower()})" if name.page else f"`{name.name}`"
    return f"- {link}: {prose(what_it_is(name), Links({}, ''))}"


def with_block(page: str, path: Path, name: str, text: str) -> str:
    """A page that is written by hand, with `text` between the two markers of that name."""
    begin, end = f"<!-- {name}: begin, written by `make docs` -->", f"<!-- {name}: end -->"
    before, begins, rest = page.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise SystemExit(f"{path} lacks the line {end if begins else begin}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def files() -> dict[Path, str]:
    """What each generated file has to hold, by path."""
    pages = {DOCS / "metrics" / f"{page}.md": page_text(page) for page in PAGES}
    blocks = (
        ("README.md", "public names", names_text()),
        ("reliability/failures.md", "failure classes", failures_table()),
        ("reliability/watching.md", "events", events_table()),
        *(("store.md", f"columns of {table}", columns_as_markdown(table)) for table in MEANINGS),
    )
    for page, name, text in blocks:
        path = DOCS / page
        pages[path] = with_block(pages.get(path) or path.read_text(encoding="utf-8"), path, name, text)
    return pages


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
