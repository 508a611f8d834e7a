"""What every scorer is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.llm.datasets.dataset import Item, digest

if TYPE_CHECKING:
    from airflow_pipeops.llm.evaluation.asking import Asked, Asker
    from airflow_pipeops.llm.evaluation.scorers.referee import Referee

_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class Score:
    """What an answer is worth.

    :param value: ``None`` where it cannot be told.
    :param label: of a class, or of a comparison.
    :param error: why there is no value.
    :param flips: comparisons that came out otherwise once their sides were swapped, and comparisons.
    """

    value: float | None = None
    label: str | None = None
    error: str | None = None
    flips: tuple[int, int] = (0, 0)

    @classmethod
    def yes(cls, passed: bool) -> Score:
        """Return 1 for a pass, and 0 for a failure."""
        return cls(1.0 if passed else 0.0)


@dataclass(frozen=True)
class Case:
    """An answer to an item.

    :param item: that was asked.
    :param arm: that answered.
    :param run: number of the repetition, from 0.
    :param text: of the answer.
    :param masked: kind -> how often it was masked in the text.
    """

    item: Item
    arm: str
    run: int
    text: str
    masked: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tools:
    """What scorers work with.

    :param asker: asks a judge, or for embeddings, within the evaluation's limits.
    :param referee: a process of its own for what may take for ever.
    :param llm_conn_id: the endpoint of a scorer that names none.
    :param since: what was stored before is asked for anew; in seconds since 1970.
    """

    asker: Asker | None
    referee: Referee
    llm_conn_id: str = ""
    since: float = 0.0

    async def ask(self, conn_id: str, path: str, body: Mapping[str, Any], sample: int) -> Asked:
        """Ask an endpoint."""
        assert self.asker is not None, "there is no endpoint"
        return await self.asker.ask(conn_id or self.llm_conn_id, path, body, sample, self.since)


@dataclass(frozen=True)
class Scorer:
    """Scores one answer at a time.

    :param name: under which its scores stand; by default that of its kind.
    :param hard: whether no item may ever fail by it.
    """

    name: str = ""
    hard: bool = False

    #: What it is called in a mapping, and where nobody names it.
    kind: ClassVar[str] = ""
    #: Whether it asks an endpoint.
    asks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        demand_types(self)
        object.__setattr__(self, "name", self.name or self.kind)
        matching("name", self.name, _NAME, "a name of a scorer", "Use letters, digits, '_', '-' and '.'.")

    @property
    def sha256(self) -> str:
        """Digest of all that it judges by: scores of another one are no comparison."""
        said = {one.name: _plain(getattr(self, one.name)) for one in fields(self)}
        return digest({"kind": self.kind, **said}, "scorers", f"the scorer {self.name!r}")

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse what can be told before anything is spent.

        :param items: that will be scored.
        :raises InvalidInput: naming the item, or the argument.
        """

    async def score(self, case: Case, tools: Tools) -> Score:
        """Score an answer.

        :param case: the answer, and to what.
        :param tools: to work with.
        :return: the score.
        """
        raise NotImplementedError


def _plain(value: Any) -> Any:
    if hasattr(value, "sha256"):
        return value.sha256
    return list(value) if isinstance(value, tuple) else value
