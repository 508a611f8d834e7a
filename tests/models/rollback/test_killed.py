"""Killed between any two steps, further attempts make both sides equal, with one record, however it is proven."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.batch.scoring import Order, pinned_now, score
from airflow_pipeops.serving.batch.store import ScoreStore
from tests.models.rollback.conftest import Sides
from tests.serving.stream.conftest import trained

Attempt = Callable[..., dict[str, Any]]


class Scoring(Sides):
    """Version 2 has scored a partition for each key, and readers see that."""

    def live(self, key: str) -> None:
        """Let version 2 be wanted, and score."""
        super().live(key)
        model = Pinned.of(vars(self.registry.version(self.model, "2")))
        order = Order(key, self.more["data"], pinned_now(model), ("id",))
        score(order, Path(self.more["store"]), lambda line: None)

    def proven(self, key: str) -> None:
        """Readers have seen version 2 and see version 1, each of one file whose digest is that of its manifest."""
        store = ScoreStore(Path(self.more["store"]), self.model)
        history = store.history(key)
        assert [one.model.sha256 for one in history] == [self.bad, self.old]
        for one in history:
            manifest, files = store.files(one, key)
            store.verify(manifest)
            (file,) = files
            assert [path.name for path in file.parent.glob("*.parquet")] == [file.name]
        assert len(list(store.root.glob(f"model=*/partition={key}/key=*/_manifest.json"))) == 2


@pytest.fixture
def scoring(sides: Sides, tmp_path: Path) -> Scoring:
    """Two versions of a model that score partitions."""
    models = trained(tmp_path / "models")[:2]
    for one in models:
        sides.registry.register(one.name, one.uri, one.sha256)
    data = pd.DataFrame({"id": range(50), "x": [number / 25 - 1 for number in range(50)], "kind": 1})
    data.to_parquet(tmp_path / "data.parquet")
    return Scoring(
        sides.remote,
        sides.registry,
        sides.folder,
        models[0].name,
        models[0].sha256,
        models[1].sha256,
        script=Path(__file__).with_name("by_batch.py"),
        more={"data": str(tmp_path / "data.parquet"), "store": str(tmp_path / "store")},
    )


def attempting(sides: Sides, attempts: subprocess.Popen[str]) -> Attempt:
    """Return what makes an attempt, which may be killed, to its end."""

    def made(key: str, kill: int = 0) -> dict[str, Any]:
        sides.ask(attempts, key, kill)
        return sides.answer(attempts)

    return made


@pytest.fixture(params=["endpoint", "batch"])
def both(request: pytest.FixtureRequest) -> Sides:
    """Two sides, and how they are proven."""
    found: Sides = request.getfixturevalue("sides" if request.param == "endpoint" else "scoring")
    return found


@pytest.fixture
def attempt(both: Sides) -> Iterator[Attempt]:
    with both.attempts() as process:
        yield attempting(both, process)


def equal(sides: Sides, since: str, key: str) -> None:
    """Both sides name the model before, by one commit and one record, and it runs."""
    assert sides.state() == (sides.old, "1", True)
    assert sides.rollbacks(since) == 1
    assert sides.records().count(key) == 1
    sides.proven(key)


def killed(sides: Sides, attempt: Attempt, key: str, *kills: int) -> None:
    """Kill attempts at these steps, one after the other, and let one end."""
    sides.reset(key)
    since = sides.remote.tip()
    assert attempt(key, kills[0]) == {"killed": True}
    for kill in kills[1:]:
        attempt(key, kill)  # a further attempt has fewer steps, and may end
    assert attempt(key)["mine"]
    equal(sides, since, key)


def steps(sides: Sides, attempt: Attempt) -> list[str]:
    """Return the steps of an attempt that nobody kills."""
    sides.reset("whole")
    since = sides.remote.tip()
    found: list[str] = attempt("whole")["steps"]
    equal(sides, since, "whole")
    return found


def a_hundred_times(sides: Sides, attempt: Attempt) -> None:
    """Kill at every step in turn, and once more at any where all have had their turn."""
    there, chance = len(steps(sides, attempt)), random.Random(0)
    for number in range(100):
        again = [chance.randint(1, there)] if number >= there else []
        killed(sides, attempt, f"task-{number}", number % there + 1, *again)


#: Where the acts of all differ most from each other, and where those that prove do; every step is for the night.
STEPS = {
    "sides": ("before _push", "after _push", "before set_alias", "after set_alias", "finish is done"),
    "scoring": ("after put", "before show", "after show", "score is done"),
}


@pytest.mark.timeout(600)
def test_killed_between_two_steps_a_retry_makes_both_sides_equal_with_one_record(
    both: Sides, attempt: Attempt
) -> None:
    there = steps(both, attempt)
    for name in STEPS["scoring" if isinstance(both, Scoring) else "sides"]:
        killed(both, attempt, f"at-{there.index(name)}", there.index(name) + 1)


@pytest.mark.timeout(600)
def test_of_two_guards_at_once_one_does(sides: Sides) -> None:
    since = sides.remote.tip()
    with sides.attempts() as one, sides.attempts() as two:
        sides.ask(one, "one")
        sides.ask(two, "two")
        found = [sides.answer(process)["mine"] for process in (one, two)]
    assert sorted(found) == [False, True]
    equal(sides, since, ("one", "two")[found.index(True)])
    assert len(sides.records()) == 1


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_killed_a_hundred_times_at_every_step_and_twice_in_a_row(both: Sides, attempt: Attempt) -> None:
    a_hundred_times(both, attempt)
