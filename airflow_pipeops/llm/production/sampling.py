"""Which calls of a window are kept: whole conversations, so many at most, and the same ones whenever it is asked. Pure.

A conversation is drawn by the hash of its id: a later run over the same window draws the same, in whatever order the calls
come, and a conversation is never torn. Where more are drawn than may be kept, those with the least hashes stay, which is
again a fair draw, of a smaller share.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.masking import BEYOND
from airflow_pipeops.llm.production.calls import TEXT, Call, masked

_WHOLE = 2**64


@dataclass(frozen=True)
class Draw(JsonForm):
    """What is drawn of a window.

    :param share: of the conversations, from 0 to 1.
    :param most: calls that are kept.
    :param text: characters of an input or answer that are kept.
    :param seed: another one draws others.
    """

    share: float = 1.0
    most: int = 20_000
    text: int = TEXT
    seed: str = ""

    def __post_init__(self) -> None:
        demand_types(self)
        if not 0 < self.share <= 1:
            raise InvalidInput(
                f"share is {self.share!r}", field="share", value=self.share, remedy="Use above 0 and up to 1."
            )
        for name, value, most in (("most", self.most, 1_000_000), ("text", self.text, 1_000_000)):
            at_least(name, value, 1, f"{name} is {value!r}", "Give at least 1.")
            if value > most:
                raise InvalidInput(
                    f"{name} is {value:,}", field=name, value=value, remedy=f"At most {most:,}."
                )


@dataclass(frozen=True)
class Drawn(JsonForm):
    """What became of the calls of a window.

    :param read: calls that were read.
    :param kept: of these, those that are kept.
    :param outside: not of the window.
    :param not_drawn: of conversations that were not drawn.
    :param over: drawn, and more than may be kept.
    :param repeated: a call that is there already.
    :param unnamed: without an id.
    :param cut: kept, with a text that is longer than what is kept of it.
    :param untagged: kept, without the digest of a prompt.
    :param share: of the conversations that is kept in the end.
    :param masked: kind -> how often it was masked.
    :param unreadable: lines that are no JSON, or too long; each may have held a call.
    """

    read: int = 0
    kept: int = 0
    outside: int = 0
    not_drawn: int = 0
    over: int = 0
    repeated: int = 0
    unnamed: int = 0
    cut: int = 0
    untagged: int = 0
    share: float = 1.0
    masked: Mapping[str, int] = field(default_factory=dict)
    unreadable: int = 0


def rank(call: Call, seed: str) -> int:
    """Return the place of a call's conversation in the draw, from 0 to 2^64."""
    name = f"{seed}\0{call.conversation or call.request_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big")


def draw(calls: Iterable[Call], start: datetime, end: datetime, wanted: Draw) -> tuple[list[Call], Drawn]:
    """Draw the calls of a window, and mask them. No more than ``wanted.most`` are held at any time.

    :param calls: as they are read; in any order, and with those of other times.
    :param start: of the window.
    :param end: of the window, which does not belong to it.
    :param wanted: what is drawn.
    :return: the calls in the order of their time, and what became of the others.
    """
    first, last = int(start.timestamp() * 1000), int(end.timestamp() * 1000)
    bar = int(wanted.share * _WHOLE)
    counts: Counter[str] = Counter()
    held: dict[tuple[str, str], Call] = {}
    heap: list[tuple[int, tuple[str, str]]] = []
    for call in calls:
        counts["read"] += 1
        key, place = (call.request_id, call.prompt_digest), rank(call, wanted.seed)
        why = _left_out(call, first, last, place < bar)
        if not why and key in held:
            why = "repeated"
        if why:
            counts[why] += 1
            continue
        held[key] = _bounded(call, wanted.text)
        heapq.heappush(heap, (-place, key))
        if len(heap) > wanted.most:
            # The conversation with the greatest hash goes, whole.
            bar = -heap[0][0]
            while heap and -heap[0][0] >= bar:
                del held[heapq.heappop(heap)[1]]
                counts["over"] += 1
    return _masked(sorted(held.values(), key=lambda call: (call.at, call.request_id)), wanted, counts, bar)


def _bounded(call: Call, limit: int) -> Call:
    """Let go what the masking does not look at."""
    most = limit + BEYOND + 1
    if max(len(call.input), len(call.answer)) <= most:
        return call
    return replace(call, input=call.input[:most], answer=call.answer[:most])


def _left_out(call: Call, first: int, last: int, drawn: bool) -> str:
    if not call.request_id:
        return "unnamed"
    if not first <= call.at < last:
        return "outside"
    return "" if drawn else "not_drawn"


def _masked(found: list[Call], wanted: Draw, counts: Counter[str], bar: int) -> tuple[list[Call], Drawn]:
    kept, kinds = [], Counter[str]()
    for call in found:
        safe, of_it = masked(call, wanted.text)
        kept.append(safe)
        kinds += of_it
        counts["cut"] += max(len(call.input), len(call.answer)) > wanted.text
        counts["untagged"] += not call.prompt_digest
    counts["kept"] = len(kept)
    return kept, Drawn(**counts, share=bar / _WHOLE, masked=dict(sorted(kinds.items())))
