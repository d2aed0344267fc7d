"""The protocols of readers.

**To add a reader**, write a module in this folder and add it to `registry.READERS` or `registry.FILE_READERS`. A reader
of objects gets the object's values as raw JSON and returns its calls as `Exchange`s; bodies stay raw bytes. It knows an
object by its keys, never by the file's name. A reader of files turns a file that is not JSON into items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from logprob_store.importing.exchanges import Exchange
    from logprob_store.importing.items import SourceItem
    from logprob_store.importing.raw_json import RawObject


class ObjectReader(Protocol):
    """A reader of JSON objects.

    An optional constant of the module, `OPENING`, is a pattern of how an object with many records begins, each of which
    a reader or a wire format recognises by itself. Of a torn file these are read one by one.
    """

    def recognises(self, held: Mapping[str, Any], /) -> bool:
        """Whether an object is one of this reader's. Its values may be raw JSON or parsed."""

    def read(self, raw: RawObject, /) -> Iterable[Exchange]:
        """The calls in an object. Raises DecodeError where it is not what its keys promise."""


class FileReader(Protocol):
    """A reader of files that are not JSON."""

    def recognises(self, head: bytes, /) -> bool:
        """Whether a file that starts like this is one of this reader's."""

    def read(
        self, reader: io.BufferedReader, read_items: Callable[[io.BufferedReader], Iterator[SourceItem]], /
    ) -> Iterator[SourceItem]:
        """The items of a file. `read_items` gives those of a file inside it."""
