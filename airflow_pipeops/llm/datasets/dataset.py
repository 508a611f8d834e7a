"""A dataset of items, pinned by a digest that does not depend on their order. Pure."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.delivery.records import canonical
from airflow_pipeops.exceptions import InvalidInput

#: What a row says of its item; whatever else it holds is among the inputs, where ``inputs`` is not there itself.
_OWN = ("id", "inputs", "expected", "cluster", "split", "hard", "tags")


def digest(value: Any, field: str, called: str) -> str:
    """Return the SHA-256 of a value's canonical JSON, with its texts in Unicode's form NFC.

    :param value: what JSON can hold.
    :param field: of the error.
    :param called: how the error calls the value.
    :return: 64 hex digits.
    :raises InvalidInput: for what JSON cannot hold.
    """
    return hashlib.sha256(canonical(_composed(value), field, called)).hexdigest()


def _composed(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {_composed(key): _composed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_composed(item) for item in value]
    return value


@dataclass(frozen=True)
class Item:
    """One thing that is asked.

    :param id: unique in its dataset.
    :param inputs: values that a prompt is filled with.
    :param expected: what a good answer is; scorers say how they read it.
    :param cluster: what it shares with others: a document, a conversation, a person.
    :param split: part of the dataset that it belongs to.
    :param hard: names of the scorers by which it must never fail, or ``True`` for all of them.
    :param tags: attributes by which slices are made.
    """

    id: str
    inputs: Mapping[str, Any]
    expected: Any = None
    cluster: str = ""
    split: str = ""
    hard: bool | tuple[str, ...] = False
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts_expected(self) -> list[str]:
        """The texts of which one is a good answer; none where something else is expected."""
        wanted = self.expected if isinstance(self.expected, list) else [self.expected]
        return [one for one in wanted if isinstance(one, str)]

    def is_hard(self, scorer: str) -> bool:
        """Whether it must never fail by a scorer."""
        return self.hard if isinstance(self.hard, bool) else scorer in self.hard

    @property
    def sha256(self) -> str:
        """Digest of all that it says."""
        said = {
            "id": self.id,
            "inputs": self.inputs,
            "expected": self.expected,
            "cluster": self.cluster,
            "split": self.split,
            "hard": self.hard if isinstance(self.hard, bool) else sorted(self.hard),
            "tags": self.tags,
        }
        return digest(said, "dataset", f"item {self.id!r}")

    @classmethod
    def of(cls, row: Mapping[str, Any], place: int) -> Item:
        """Read a row.

        :param row: ``id``, and maybe ``inputs``, ``expected``, ``cluster``, ``split``, ``hard`` and ``tags``. Without
            ``inputs``, all other names are inputs.
        :param place: of the row in its file, from 1.
        :return: the item.
        :raises InvalidInput: naming the row and what is wrong.
        """
        name = row.get("id")
        if not isinstance(name, (str, int)) or isinstance(name, bool) or name == "":
            raise bad_row(
                place, f"has no id, but {name!r}", "Give each item a text or a number of its own in 'id'."
            )
        inputs = row.get("inputs") or {key: value for key, value in row.items() if key not in _OWN}
        if not isinstance(inputs, Mapping) or not inputs:
            raise bad_row(place, "has no inputs", "Give the values that the prompt is filled with.")
        hard = row.get("hard") or False
        if isinstance(hard, (list, tuple)):
            hard = tuple(str(one) for one in hard)
        elif not isinstance(hard, bool):
            raise bad_row(place, f"has hard {hard!r}", "Write true, or a list of names of scorers.")
        return cls(
            str(name),
            dict(inputs),
            row.get("expected"),
            "" if row.get("cluster") is None else str(row["cluster"]),
            "" if row.get("split") is None else str(row["split"]),
            hard,
            {str(key): str(value) for key, value in map_(row.get("tags")).items() if value is not None},
        )


@dataclass(frozen=True)
class Dataset:
    """Items, each once.

    :param items: in the order of their file.
    :param name: where they come from.
    """

    items: tuple[Item, ...]
    name: str = "dataset"

    def __post_init__(self) -> None:
        if not self.items:
            raise InvalidInput(
                f"{self.name} has no items",
                field="dataset",
                value=self.name,
                remedy="Check the URI, and the split that is asked for.",
            )
        self._refuse_twice({}, [(item.id, "have the same id") for item in self.items])
        seen = {item.id: digest(squeezed(item.inputs), "dataset", f"item {item.id!r}") for item in self.items}
        self._refuse_twice(seen, [(item.id, "ask the same") for item in self.items])

    def _refuse_twice(self, content: Mapping[str, str], named: Sequence[tuple[str, str]]) -> None:
        first: dict[str, str] = {}
        for name, said in named:
            key = content.get(name, name)
            if key in first:
                raise InvalidInput(
                    f"items {first[key]!r} and {name!r} of {self.name} {said}",
                    field="dataset",
                    value=name,
                    remedy="Remove one of them: an item that is there twice counts twice. Repeat with 'runs'.",
                )
            first[key] = name

    @property
    def sha256(self) -> str:
        """Digest of the items, whatever their order."""
        return hashlib.sha256("\n".join(sorted(item.sha256 for item in self.items)).encode()).hexdigest()

    @property
    def texts(self) -> list[dict[str, Any]]:
        """What a prompt must not quote of each item: its inputs, and the texts that are expected of it alone.

        What is expected of several is a class, and a prompt may well name it.

        :return: name -> value, for each item.
        """
        wanted = [item.texts_expected for item in self.items]
        count = Counter(text for texts in wanted for text in set(texts))
        return [
            {**item.inputs, **{f"expected[{n}]": one for n, one in enumerate(texts) if count[one] == 1}}
            for item, texts in zip(self.items, wanted, strict=True)
        ]

    def split(self, *names: str) -> Dataset:
        """Return the items of these splits; all, for none."""
        if not names:
            return self
        there = {item.split for item in self.items}
        if absent := [name for name in names if name not in there]:
            raise InvalidInput(
                f"{self.name} has no split {', '.join(map(repr, absent))}",
                field="split",
                value=absent,
                remedy=f"It has {', '.join(map(repr, sorted(there)))}.",
            )
        return Dataset(tuple(item for item in self.items if item.split in names), self.name)

    def shard(self, number: int, of: int) -> tuple[Item, ...]:
        """Return one of several parts, the same in whatever order the items come. A part may be empty.

        :param number: of the part, from 0.
        :param of: how many there are.
        :return: its items, in an order that has nothing to do with what they are.
        """
        keyed = sorted((hashlib.sha256(item.id.encode()).hexdigest(), item) for item in self.items)
        return tuple(item for place, (_, item) in enumerate(keyed) if place % of == number)


def squeezed(value: Any) -> Any:
    """Return a value, in whose texts all space is one blank."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return {key: squeezed(item) for key, item in value.items()}
    return [squeezed(item) for item in value] if isinstance(value, (list, tuple)) else value


def of_rows(rows: Iterable[Mapping[str, Any]], name: str = "dataset") -> Dataset:
    """Make a dataset of rows; see :meth:`Item.of`.

    :param name: for errors.
    :return: the dataset.
    """
    return Dataset(tuple(Item.of(row, place) for place, row in enumerate(rows, 1)), name)


def bad_row(place: int, said: str, remedy: str) -> InvalidInput:
    """Return the error about a row, which is counted from 1."""
    return InvalidInput(f"row {place} of the dataset {said}", field="dataset", value=place, remedy=remedy)
