"""Which alternative is the prompt's own token, at each position of vLLM's `prompt_logprobs`.

vLLM lists the prompt's own token first, then the likeliest by rank. Gateways that parse and write the JSON again list
the ids in another order. So the own token is sought, in this order,

1. by the ids of the prompt's tokens, where the server or the request gives them;
2. by the ranks: if they are those of vLLM's order, it is the first; else it is the one whose rank is beyond those of
   the likeliest;
3. by the text of the prompt, which the own tokens spell: where the ranks leave it open, or fit both orders because each
   first token is the likeliest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.decode.token_rows import Token

_ODD_SHARE: Final = 4
"""One position whose ranks contradict vLLM's order is an oddity of its own, if this many others show that order."""


class Listed(NamedTuple):
    """The alternatives at one position, in the wire's order, and the rank that the wire gives to each."""

    tokens: Sequence[Token]
    ranks: Sequence[Any]


def own_places(positions: Sequence[Listed | None], ids: Any, prompt: str | None) -> list[int | None]:
    """The place of the prompt's own token among the alternatives at each position.

    Args:
        positions: None where nothing is listed.
        ids: the ids of the prompt's tokens, one for each position, if they are known.
        prompt: the text of the prompt, if it is known.

    Returns:
        None where nothing is listed, or where it cannot be told.
    """
    if isinstance(ids, list) and len(ids) == len(positions):
        return [None if listed is None else _place_of_id(listed, ids[n]) for n, listed in enumerate(positions)]
    known = [listed for listed in positions if listed is not None]
    text = None if prompt is None else prompt.encode(errors="replace")
    reordered, shown = sum(map(_is_reordered, known)), sum(map(_shows_order, known))
    if _ODD_SHARE * reordered <= shown:
        firsts: list[int | None] = [None if listed is None else 0 for listed in positions]
        if shown or text is None or all(len(listed.tokens) == 1 for listed in known):
            return firsts
        found = _places_in_text(positions, [None] * len(positions), text)
        return [first if place is None else place for first, place in zip(firsts, found, strict=True)]
    width = _width(known)
    places = [None if listed is None else _place_by_rank(listed, width) for listed in positions]
    return places if text is None else _places_in_text(positions, places, text)


def _place_of_id(listed: Listed, token_id: Any) -> int | None:
    return next((n for n, token in enumerate(listed.tokens) if token.token_id == token_id is not None), None)


def _is_in_order(listed: Listed) -> bool:
    """Whether all but the first are the likeliest, by rank or, without ranks, by log-probability."""
    first, *others = listed.ranks
    if _has_no_ranks(listed):
        numbers = [token.logprob for token in listed.tokens[1:] if token.logprob is not None]
        return numbers == sorted(numbers, reverse=True)
    return others == [rank for rank in range(1, len(others) + 2) if rank != first][: len(others)]


def _shows_order(listed: Listed) -> bool:
    """Whether the first is not the likeliest and the others are in order, as in vLLM's own bodies alone."""
    if len(listed.tokens) == 1 or not _is_in_order(listed):
        return False
    if _has_no_ranks(listed):
        first, second, *_ = (token.logprob for token in listed.tokens)
        return first is not None and second is not None and first < second
    return bool(listed.ranks[0] != 1)


def _is_reordered(listed: Listed) -> bool:
    """Whether these are the own token and the likeliest, but not in vLLM's order."""
    if _is_in_order(listed):
        return False
    if _has_no_ranks(listed):
        return True
    return _are_ranks(listed) and sorted(listed.ranks)[:-1] == list(range(1, len(listed.ranks)))


def _has_no_ranks(listed: Listed) -> bool:
    return all(rank is None for rank in listed.ranks)


def _are_ranks(listed: Listed) -> bool:
    return all(type(rank) is int for rank in listed.ranks)


def _width(known: Sequence[Listed]) -> int | None:
    """How many of the likeliest are listed at each position, from the positions where the own token is not among them.

    None if there is no such position.
    """
    widths = {len(listed.ranks) - 1 for listed in known if _outlier(listed) is not None}
    return widths.pop() if len(widths) == 1 else None


def _outlier(listed: Listed) -> int | None:
    """The place of the one rank beyond those of the likeliest; None if there is none."""
    if not _are_ranks(listed):
        return None
    ranks = sorted(listed.ranks)
    if ranks[:-1] != list(range(1, len(ranks))) or ranks[-1] <= len(ranks):
        return None
    return list(listed.ranks).index(ranks[-1])


def _place_by_rank(listed: Listed, width: int | None) -> int | None:
    if len(listed.tokens) == 1:
        return 0
    place = _outlier(listed)
    if place is None and width is not None and len(listed.ranks) == width + 1 and width + 1 in listed.ranks:
        place = list(listed.ranks).index(width + 1)
    return place


def _places_in_text(
    positions: Sequence[Listed | None], places: Sequence[int | None], prompt: bytes
) -> list[int | None]:
    """The places again, with those that all ways to spell the end of the prompt have in common.

    A way picks a token at each position from the first that is listed on; together they spell the prompt's last bytes.
    """
    spelled = [_choices(listed, place) for listed, place in zip(positions, places, strict=True)]
    first = next((n for n, listed in enumerate(positions) if listed is not None), 0)
    # Where the token at a position may begin in the prompt, if all that follow are spelled: from the last one back.
    begins: list[set[int]] = [set() for _ in positions] + [{len(prompt)}]
    for n in range(len(positions) - 1, first - 1, -1):
        texts = set(spelled[n].values())
        begins[n] = {end - len(text) for end in begins[n + 1] for text in texts if prompt.endswith(text, 0, end)}
    if not positions or not begins[first]:
        return list(places)
    found = list(places)
    reached = begins[first]
    for n in range(first, len(positions)):
        ends = {
            place: {at + len(text) for at in reached if prompt.startswith(text, at)} & begins[n + 1]
            for place, text in spelled[n].items()
        }
        possible = [place for place, after in ends.items() if after]
        if len(possible) == 1:
            found[n] = possible[0]
        reached = set().union(*ends.values())
    return found


def _choices(listed: Listed | None, place: int | None) -> Mapping[int, bytes]:
    """The bytes of the tokens that may be the own one, by their place."""
    if listed is None:
        return {}
    places = range(len(listed.tokens)) if place is None else [place]
    return {n: (listed.tokens[n].text or "").encode(errors="replace") for n in places if listed.tokens[n].text}
