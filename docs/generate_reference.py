"""Writes what the docs take from the code: the pages of docs/metrics/, the public names, failures and events.

    make docs    # or: .venv/bin/python docs/generate_reference.py

`logprob_store/__init__.pyi` lists the public names; pages and modules follow its order. Each folder of
`logprob_store/metrics/` is a page. docs/metrics/README.md is written by hand. The other pages have a block between
markers. A test holds all of them to the code.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args, get_origin

import logprob_store as ls
from logprob_store.events import events_table
from logprob_store.failures import failures_table
from logprob_store.metrics.engine.catalogue import SCORES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

DOCS: Final = Path(__file__).parent
PACKAGE: Final = Path(ls.__file__).parent
HEAD: Final = "<!-- Generated from the docstrings by `make docs`. Change those, not this page. -->\n"

TITLES: Final = {
    "tokens": "Metrics of the chosen tokens",
    "alternatives": "Metrics of the alternatives",
    "spans": "Text, words, sentences, lines and JSON fields",
    "labels": "Labels, yes or no, and scores",
    "given": "Text that was given",
    "samples": "Several answers to one prompt",
    "truth": "Confidences against the truth",
    "two_runs": "Two runs of the same prompts",
    "scores": "One row of scores per completion",
}
"""Each page's title. A folder of `logprob_store/metrics/` is a page of its name; scores are in `engine`."""

PAGE_OF_MODULE: Final = {"engine": "scores", "arguments": "scores"}

COLUMNS: Final = {"text"}
"""Names of metrics that stand in docstrings as names of columns."""

WIDTH: Final = 100


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
        elif line:
            words = line.split()
            names.append(Name(heading, words[1], words[-1]))
    return names


NAMES: Final = public_names()
PAGE_OF: Final = {name.name: name.page for name in NAMES if name.page}


# Markdown


def linked(text: str, page: str, own: str = "") -> str:
    r"""Prose of a docstring as Markdown, with links to metrics, pages and papers.

    Args:
        text: lines of a docstring.
        page: the page in docs/metrics/ it is for.
        own: the name that is described, which is not linked to itself.

    >>> linked("as in `margin`, 2**32 (arXiv:2508.15260)", "tokens")
    'as in [`margin`](alternatives.md#margin), 2\\*\\*32 ([arXiv:2508.15260](https://arxiv.org/abs/2508.15260))'
    """
    return "".join(_code(part, page, own) if part.startswith("`") else _plain(part) for part in _spans(text))


def _spans(text: str) -> list[str]:
    """Text and code spans, in turns."""
    return re.split(r"((?<!`)`[^`]+`(?!`))", text)


def _escaped(text: str) -> str:
    """Prose without the signs that Markdown would take for its own."""
    return re.sub(r"(?<!\w)_|[*<]", r"\\\g<0>", text)


def _code(span: str, page: str, own: str) -> str:
    name = span.strip("`")
    called = name.removeprefix("ls.").removesuffix("()")
    if called in PAGE_OF and called != own and name not in COLUMNS:
        name = called
        return f"[{span}]({'' if PAGE_OF[name] == page else f'{PAGE_OF[name]}.md'}#{name.lower()})"
    return _page_links(name) if name.startswith("docs/") else span


def _plain(text: str) -> str:
    text = _escaped(text)
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    text = re.sub(r"doi:(10\.\S+?)(?=[,;)]|\.?\s|$)", r"[doi:\1](https://doi.org/\1)", text)
    text = re.sub(r"\b(Range(?= [\[(])|Needs:|Source:|Columns:)", r"**\1**", text)
    return _page_links(text)


def _page_links(text: str) -> str:
    """Links in place of `docs/comparing.md`, which stand in docstrings as seen from the repository's folder."""
    return re.sub(r"docs/([\w/-]+\.md)", lambda match: f"[{match[1]}](../{match[1]})", text)


def paragraphs(doc: str) -> Iterator[list[str]]:
    """The paragraphs of a docstring, each as its lines; an example ends a paragraph."""
    lines: list[str] = []
    for line in [*doc.splitlines(), ""]:
        starts_example = line.startswith(">>>") and lines and not lines[0].startswith(">>>")
        if (not line or starts_example) and lines:
            yield lines
            lines = []
        if line:
            lines.append(line)


def markdown(doc: str, page: str, own: str = "") -> str:
    """A docstring as Markdown."""
    return "\n\n".join(_paragraph(lines, page, own) for lines in paragraphs(doc))


def _paragraph(lines: Sequence[str], page: str, own: str) -> str:
    if lines[0].startswith(">>>"):
        return "\n".join(["```pycon", *lines, "```"])
    if re.fullmatch(r"[A-Z]\w+:", lines[0]) and all(line.startswith("    ") for line in lines[1:]):
        return f"**{lines[0]}**\n\n{_items(lines[1:], page, own)}"
    kept = [re.sub(r"^([-+>#]|\d+[.)])(?= )", r"\\\1", line) if line is not lines[0] else line for line in lines]
    if re.match(r"[-+*] ", lines[0]):
        kept = list(lines)
    return linked("\n".join(kept), page, own)


def _items(lines: Sequence[str], page: str, own: str) -> str:
    """What `Args:` or `Raises:` lists, one bullet an item."""
    items = []
    for line in (line[4:] for line in lines):
        name, colon, rest = line.partition(": ")
        items.append(f"- `{name}`: {rest}" if colon and not line.startswith(" ") else f"  {line.strip()}")
    return linked("\n".join(items), page, own)


# What Python knows of a name


def signature(name: str, thing: Any) -> str:
    """How a function is called, or what an object holds, a parameter a line where they do not fit on one."""
    found = inspect.signature(thing)
    module = sys.modules[thing.__module__]
    shown = [parameter for parameter in found.parameters.values() if not parameter.name.startswith("_")]
    parameters = [_parameter(parameter, module) for parameter in shown]
    first = next((place for place, one in enumerate(shown) if one.kind is one.KEYWORD_ONLY), None)
    if first is not None:
        parameters.insert(first, "*")
    returns = "" if inspect.isclass(thing) else f" -> {_annotation(found.return_annotation, module)}"
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){returns}"])


def _parameter(parameter: inspect.Parameter, module: ModuleType) -> str:
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation, module)}"
    return text if parameter.default is parameter.empty else f"{text} = {_default(parameter.default)}"


def _annotation(annotation: Any, module: ModuleType) -> str:
    """An annotation as it is written; names of a few literals become these literals."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for word in set(re.findall(r"\w+", text)):
        alias = getattr(module, word, None)
        if get_origin(alias) is Literal:
            text = re.sub(rf"\b{word}\b", " | ".join(f'"{literal}"' for literal in get_args(alias)), text)
    return text


def _default(value: Any) -> str:
    known = {math.e: "math.e", sys.float_info.epsilon: "2**-52"}
    if isinstance(value, float) and value in known:
        return known[value]
    return repr(value).replace("'", '"')


def summary(thing: Any) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def range_of(thing: Any) -> str:
    """The range of a metric and which way is better, as its docstring has them.

    >>> range_of(ls.perplexity)
    '[1, inf), down is better'
    """
    text = " ".join((inspect.getdoc(thing) or "").split())
    found = re.search(r"\bRange:? ([\[(][^])]*[])](?:\([^)]*\)|[^;:.(]|\.(?=\S))*)", text)
    return found[1].strip() if found else ""


def constant_docs(module: ModuleType) -> dict[str, str]:
    """The texts that stand below a module's constants."""
    body = ast.parse(inspect.getsource(module)).body
    return {
        node.target.id: below.value.value
        for node, below in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


# The pages


def entry(name: Name, page: str) -> str:
    """The part of a page that describes one name."""
    thing, module = getattr(ls, name.name), import_module(f"logprob_store{name.module}")
    if not callable(thing):
        return f"### {name.name}\n\n`{thing!r}`. {linked(constant_docs(module)[name.name], page)}"
    call = f"```text\n{signature(name.name, thing)}\n```"
    parts = [f"### {name.name}", call, markdown(inspect.getdoc(thing) or "", page, name.name)]
    if inspect.isclass(thing):
        parts += [_member(f"{name.name}.{member}", value, page) for member, value in _members(thing)]
    else:
        parts += _returned(thing, module, page)
    return "\n\n".join(parts)


def _members(thing: type) -> list[tuple[str, Any]]:
    kinds = (property, type(_members))
    return [(name, value) for name, value in vars(thing).items() if isinstance(value, kinds) and name[0] != "_"]


def _member(name: str, value: Any, page: str) -> str:
    doc = markdown(inspect.getdoc(value) or "", page)
    if isinstance(value, property):
        return f"**`{name}`** {doc}"
    call = re.sub(r"\(self(?:, )?", "(", signature(name, value)).replace("    self,\n", "")
    return f"```text\n{call}\n```\n\n{doc}"


def _returned(function: Any, module: ModuleType, page: str) -> list[str]:
    """The fields of what a function returns, where that is a class of its own that is not public."""
    kind = getattr(module, str(inspect.signature(function).return_annotation), None)
    if not inspect.isclass(kind) or kind.__module__ != module.__name__ or kind.__name__ in ls.__all__:
        return []
    return [f"Returns a `{kind.__name__}`.", f"```text\n{signature(kind.__name__, kind)}\n```", _doc(kind, page)]


def _doc(thing: Any, page: str) -> str:
    return markdown(inspect.getdoc(thing) or "", page)


def module_head(module: ModuleType, page: str, *, alone: bool) -> str:
    """What a module's docstring says to readers; what it leaves out is for authors, and left out here.

    Args:
        module: the module.
        page: the page in docs/metrics/ it is for.
        alone: whether it is the page's only module, which needs no heading of its own.
    """
    title, _, rest = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    about = [" ".join(lines) for lines in paragraphs(rest)]
    about = [re.sub(r"(?:^|(?<=\s))Leaves out .*?(?:\.(?=\s)|\.$)", "", text).strip() for text in about]
    head = f"{linked(title, page)}" if alone else f"## {linked(title.rstrip('.'), page)}"
    return "\n\n".join([head, *(linked(text, page) for text in about if text)])


def contents(names: Sequence[Name]) -> str:
    """The table on top of a page."""
    rows = ["| name | what it is | range |", "|---|---|---|"]
    for name in names:
        thing = getattr(ls, name.name)
        if callable(thing):
            cells = [linked(text, name.page or "", name.name) for text in (summary(thing), range_of(thing))]
            rows.append(f"| [`{name.name}`](#{name.name.lower()}) | {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def scores_by_name() -> str:
    """The names that `scores(metrics=[...])` and `logprobs scores --metrics` take."""
    rows = ["## Scores by name", "", "`metrics=[...]` and `logprobs scores --metrics A,B,...` take these names.", ""]
    rows += ["| name | what it is | by default |", "|---|---|---|"]
    for score in SCORES.values():
        metric = score.metric.__name__
        what = f"[`{metric}`]({PAGE_OF[metric]}.md#{metric})" + (f": {score.note}" if score.note else "")
        rows.append(f"| `{score.name}` | {what} | {'yes' if score.default else ''} |")
    return "\n".join(rows)


def names_of(page: str) -> list[Name]:
    """The names of a page: modules in the stub's order, names in the order in which their module defines them."""
    names = [name for name in NAMES if name.page == page]
    modules = list(dict.fromkeys(name.module for name in names))
    defined = {path: list(vars(import_module(f"logprob_store{path}"))) for path in modules}
    return sorted(names, key=lambda name: (modules.index(name.module), defined[name.module].index(name.name)))


def page_text(page: str) -> str:
    """A page of docs/metrics/."""
    names = names_of(page)
    modules = list(dict.fromkeys(name.module for name in names))
    parts = [f"{HEAD}\n# {TITLES[page]}", contents(names), "[How to use them, and what holds for all](README.md)"]
    for path in modules:
        module = import_module(f"logprob_store{path}")
        parts.append(module_head(module, page, alone=len(modules) == 1))
        parts += [entry(name, page) for name in names if name.module == path]
    if page == "scores":
        parts.append(scores_by_name())
    return "\n\n".join(parts) + "\n"


def names_text() -> str:
    """The public names for docs/README.md, below the headings of the stub."""
    lines: list[str] = []
    for heading in dict.fromkeys(name.heading for name in NAMES):
        names = [name for name in NAMES if name.heading == heading]
        lines += ["", f"**{heading}**", ""]
        lines += [_index_line(name) for name in names]
    return "\n".join(lines[1:]) + "\n"


def _index_line(name: Name) -> str:
    thing = getattr(ls, name.name)
    link = f"[`{name.name}`](metrics/{name.page}.md#{name.name.lower()})" if name.page else f"`{name.name}`"
    module = import_module(f"logprob_store{name.module}")
    text = summary(thing) if callable(thing) else constant_docs(module).get(name.name, f"`{thing!r}`")
    return f"- {link}: {''.join(part if part.startswith('`') else _escaped(part) for part in _spans(text))}"


def files() -> dict[Path, str]:
    """What each generated file has to hold, by path."""
    missing = set(PAGE_OF.values()) - TITLES.keys()
    if missing:
        raise SystemExit(f"docs/generate_reference.py: TITLES has no title for {', '.join(sorted(missing))}")
    pages = {DOCS / "metrics" / f"{page}.md": page_text(page) for page in TITLES}
    blocks = (
        ("README.md", "public names", names_text()),
        ("reliability/failures.md", "failure classes", failures_table()),
        ("reliability/watching.md", "events", events_table()),
    )
    return pages | {DOCS / page: with_block(DOCS / page, name, text) for page, name, text in blocks}


def with_block(path: Path, name: str, text: str) -> str:
    """A page that is written by hand, with `text` between the two markers of that name."""
    begin, end = f"<!-- {name}: begin, written by `make docs` -->", f"<!-- {name}: end -->"
    before, begins, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise SystemExit(f"{path} lacks the line {end if begins else begin}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
