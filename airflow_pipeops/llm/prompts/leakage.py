"""Does a prompt quote the items that it is to be judged by? Pure.

Such an item measures memory: a prompt whose examples are items of the dataset is praised for copying them. Words are
compared, not meanings: an item that was rewritten is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.llm.prompts.prompt import Prompt
from airflow_pipeops.llm.prompts.template import fixed, written

#: Words in a row that two texts hardly share by chance, and below which a whole text is no evidence.
RUN, SHORTEST = 8, 4

#: A word; of a script without spaces, a letter; and the mark that stands for a variable.
_WORD = re.compile(r"\0|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")


@dataclass(frozen=True)
class Leak:
    """An item that the prompt quotes.

    :param item: number of the item, from 0.
    :param field: of the item whose text is quoted.
    :param words: of that text which stand in a quoted run.
    :param share: of all of that text's words.
    :param passage: the beginning of the first quoted run, in words.
    """

    item: int
    field: str
    words: int
    share: float
    passage: str


@dataclass(frozen=True)
class Leakage:
    """What was found.

    :param verdict: ``clean``; ``leaks``; ``cannot tell`` where no item has a text that is long enough.
    :param leaks: the items that are quoted, in order.
    :param items: that were looked at.
    :param short: items with no text of :data:`SHORTEST` words or more, of which nothing can be told.
    :param reason: one sentence.
    """

    verdict: Literal["clean", "leaks", "cannot tell"]
    leaks: tuple[Leak, ...]
    items: int
    short: int
    reason: str


def leakage(
    prompt: Prompt, items: Iterable[Mapping[str, Any]], *, fields: Sequence[str] = (), run: int = RUN
) -> Leakage:
    """Find items whose texts stand in the fixed text of a prompt.

    A text is quoted where ``run`` of its words in a row stand in the prompt; a shorter one, of at least :data:`SHORTEST`
    words, where all of them do. Case and punctuation do not count.

    :param prompt: whose template, without its variables, may quote.
    :param items: of the dataset: name of a field -> value.
    :param fields: that are compared; all of them by default.
    :param run: words in a row.
    :return: the verdict.
    :raises InvalidInput: for a run that plain language has by chance.
    """
    at_least("run", run, SHORTEST, f"runs of {run} words are shared by chance", f"Give {SHORTEST} or more.")
    said = _words(" \0 ".join(fixed(one.content) for one in prompt.messages))
    windows = {length: _windows(said, length) for length in range(SHORTEST, run + 1)}
    leaks, count, short = [], 0, 0
    for count, item in enumerate(items, 1):
        texts = [
            (name, _words(written(value))) for name, value in item.items() if not fields or name in fields
        ]
        short += all(len(words) < SHORTEST for _, words in texts)
        found = [leak for name, words in texts if (leak := _quoted(count - 1, name, words, windows, run))]
        if found:
            leaks.append(max(found, key=lambda leak: leak.words))
    if leaks:
        first = leaks[0]
        return Leakage(
            "leaks",
            tuple(leaks),
            count,
            short,
            f"{len(leaks)} of {count} items stand in the prompt; item {first.item} by its {first.field}: {first.passage!r}.",
        )
    if short == count:
        return Leakage(
            "cannot tell", (), count, short, f"None of {count} items has a text of {SHORTEST} words."
        )
    told = f", {short} of them too short to tell" if short else ""
    return Leakage("clean", (), count, short, f"The prompt quotes none of {count} items{told}.")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _windows(words: list[str], length: int) -> set[tuple[str, ...]]:
    """Return all runs of so many words that no variable interrupts."""
    found = zip(*(words[start:] for start in range(length)), strict=False)
    return {window for window in found if "\0" not in window}


def _quoted(
    item: int, name: str, words: list[str], windows: Mapping[int, set[tuple[str, ...]]], run: int
) -> Leak | None:
    length = min(run, len(words))
    if length < SHORTEST:
        return None
    inside: set[int] = set()
    first = -1
    for start in range(len(words) - length + 1):
        if tuple(words[start : start + length]) in windows[length]:
            first = start if first < 0 else first
            inside.update(range(start, start + length))
    if not inside:
        return None
    passage = " ".join(words[first : first + length])
    return Leak(item, name, len(inside), len(inside) / len(words), passage[:200])
