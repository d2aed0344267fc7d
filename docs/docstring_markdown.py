"""Docstrings and signatures as Markdown, for the pages that `generate_reference.py` writes.

The docstrings are in Google's style, with facts of a metric (`Formula:`, `Range:` ...) one after the other and lists of
columns in Markdown. Examples stay as they are.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from typing import TYPE_CHECKING, Any, Final, ForwardRef, Literal, NamedTuple, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

FACT: Final = re.compile(r"(Formula|Range|Needs|Nulls|Source|Memory): ")
COLUMNS: Final = {"confidence", "text"}
"""Metrics whose names are also those of columns: they are links only on their own pages."""

WIDTH: Final = 100
"""The longest line of a signature."""


class Links(NamedTuple):
    """Where the names in a docstring lead.

    Args:
        pages: the page in docs/metrics/ of each public name.
        page: the page that the docstring is for.
        own: the name that it describes, which is not a link.
    """

    pages: Mapping[str, str]
    page: str
    own: str = ""

    def to(self, name: str) -> str | None:
        """The address of a name; None for what is no link."""
        page = self.pages.get(name)
        if page is None or name == self.own or (name in COLUMNS and page != self.page):
            return None
        return self.address(name)

    def address(self, name: str) -> str:
        """The address of the part of a page that describes a name."""
        page = self.pages[name]
        return f"{'' if page == self.page else f'{page}.md'}#{name.lower()}"


def markdown(doc: str, links: Links) -> str:
    """A docstring as Markdown."""
    return "\n\n".join(_paragraph(text, links) for text in doc.split("\n\n"))


def _paragraph(text: str, links: Links) -> str:
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if FACT.match(text):
        return _facts(text, links)
    if text.startswith("- "):
        return _list(text, links)
    head, _, items = text.partition("\n")
    if re.fullmatch(r"[A-Z]\w+:", head):
        return f"**{head}**\n\n{_list(_bullets(items), links)}" if items else f"**{head}**"
    return prose(text, links)


def _facts(text: str, links: Links) -> str:
    """Facts as a list. Its bullets are asterisks: a list with hyphens beside it stays a list of its own."""
    items = []
    for fact in re.split(rf"\n(?={FACT.pattern})", text)[::2]:
        name, _, said = fact.partition(": ")
        said = re.sub(r"\bUnit:(?=\s)", "**Unit:**", prose(said, links)).replace("\n", "\n  ")
        items.append(f"* **{name}:** {said}")
    return "\n".join(items)


def _bullets(text: str) -> str:
    r"""What `Args:` or `Raises:` lists, as a list of Markdown.

    >>> print(_bullets("    low: the lower\n        end.\n    high: the upper end."))
    - `low`: the lower
      end.
    - `high`: the upper end.
    """
    text = re.sub(r"^ {4}(\S.*?): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"^ {8}", "  ", text, flags=re.MULTILINE)


def _list(text: str, links: Links) -> str:
    """A list of columns or arguments, whose names before the colon are no links."""
    heads_and_texts = re.split(r"(^- [^:]+:)", text, flags=re.MULTILINE)
    return "".join(part if part.startswith("- ") else prose(part, links) for part in heads_and_texts)


def prose(text: str, links: Links) -> str:
    r"""Prose as Markdown, with links to metrics, pages and papers.

    >>> prose("as in `margin`, 2**32 (arXiv:2508.15260)", Links({"margin": "alternatives"}, "tokens"))
    'as in [`margin`](alternatives.md#margin), 2\\*\\*32 ([arXiv:2508.15260](https://arxiv.org/abs/2508.15260))'
    """
    code_and_text = re.split(r"((?<!`)`[^`]+`(?!`))", text)
    return "".join(_code(part, links) if part.startswith("`") else _plain(part) for part in code_and_text)


def _code(span: str, links: Links) -> str:
    address = links.to(span.strip("`").removeprefix("ls.").removesuffix("()"))
    return span if address is None else f"[{span}]({address})"


def _plain(text: str) -> str:
    text = re.sub(r"(?<!\w)_|[*<]", r"\\\g<0>", text)  # signs that Markdown would take for its own
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    text = re.sub(r"doi:(10\.\S+?)(?=[,;)]|\.?\s|$)", r"[doi:\1](https://doi.org/\1)", text)
    text = re.sub(r"\bColumns(?=[:,])", "**Columns**", text)
    # Docstrings name pages as seen from the repository's folder.
    return re.sub(r"docs/([\w/-]+\.md)", r"[\1](../\1)", text)


def summary(thing: Any) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def range_of(thing: Any) -> str:
    """The range of a metric and which way is better; where there is none, the kind of thing that it is or returns.

    >>> import logprob_store as ls
    >>> range_of(ls.perplexity), range_of(ls.text_scores), range_of(ls.compare), range_of(ls.Verdict)
    ('[1, inf), lower is better', 'a table', 'a `Comparison`', 'a class')
    """
    said = re.search(r"^Range: ((?:[\[(][^])]*[])]|[^.;:])+)", inspect.getdoc(thing) or "", re.MULTILINE)
    if said:
        return " ".join(said[1].split())
    if inspect.isclass(thing):
        return "a class"
    returned = inspect.signature(thing).return_annotation
    return "a table" if returned == "pl.LazyFrame" else f"a `{returned}`"


def signature(name: str, thing: Any) -> str:
    """How a function is called, or what an object holds, a parameter a line where they do not fit on one."""
    found = inspect.signature(thing)
    module = sys.modules[thing.__module__]
    shown = [one for one in found.parameters.values() if one.name != "self" and not one.name.startswith("_")]
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
    if isinstance(annotation, ForwardRef):  # as NamedTuple keeps it
        annotation = annotation.__forward_arg__
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
