"""Simulated histories with an incident whose cause is known, as records of a ledger.

What happens is drawn from other distributions than the ranking assumes, and by other rules: what a bad change breaks shows
after a lag that is gamma distributed, uniform or fixed (the ranking: log-logistic); how it shows is drawn from possibilities
of equal weight; innocent changes come in office hours, now and then just before the incident, and are of log-normal sizes;
gates miss and cry wolf at rates of their own; an incident without a cause comes at any hour. A shop has two regions, of
which a change may reach one alone, an upstream that delivers data, and a neighbour that has nothing to do with it.
Nothing here imports a number of the ranking.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.delivery.records import Record

START = datetime(2026, 3, 2, tzinfo=timezone.utc)  # a Monday
DAYS = 12
REGIONS = ("production-eu", "production-us")
CAUSES = (
    "code", "image", "config", "schema", "units", "late", "model", "prompt", "provider", "secret", "nothing",
)  # fmt: skip
#: Which symptoms each can have; each as likely.
_SHOWS = {
    "code": ("degraded", "failure", "failure", "metric"),
    "image": ("degraded", "failure"),
    "config": ("degraded", "degraded", "failure"),
    "schema": ("data", "failure"),
    "units": ("drift", "metric", "drift"),
    "late": ("failure", "metric"),
    "model": ("metric",),
    "prompt": ("metric", "metric", "degraded"),
    "provider": ("metric", "degraded"),
    "secret": ("failure", "failure", "degraded"),
    "nothing": ("degraded", "failure", "metric", "drift"),
    # Of the demo alone.
    "reverted": ("degraded", "failure"),
    "by hand": ("degraded", "degraded", "failure"),
}
#: What the ranking may call each.
KINDS = {
    "code": {"code"}, "image": {"image"}, "config": {"config", "infra", "flag"}, "schema": {"schema"}, "units": {"data"},
    "late": {"late data"}, "model": {"model"}, "prompt": {"prompt"}, "provider": {"provider"}, "secret": {"secret"},
    "reverted": {"rollback"}, "by hand": {"config", "infra"},
}  # fmt: skip


@dataclass
class Episode:
    """A history with an incident at its end.

    :param cause: one of :data:`CAUSES`.
    :param records: in the order of time.
    :param truth: ids of the records that are the cause; empty for nothing.
    :param symptom: id of the record of what went wrong.
    :param shows: how it does.
    :param innocent: changes that are not it.
    :param kinds: what the ranking may call it; none for what it calls each such cause.
    """

    cause: str
    records: list[Record] = field(default_factory=list)
    truth: set[str] = field(default_factory=set)
    symptom: str = ""
    shows: str = ""
    innocent: int = 0
    kinds: set[str] = field(default_factory=set)


class History:
    """Makes one episode."""

    def __init__(self, cause: str, seed: int) -> None:
        self.draw = random.Random(f"{cause} {seed}")
        self.episode = Episode(cause)
        self.number = 0
        self.tag = f"{cause}-{seed}"
        self.size = self.draw.uniform(0.2, 1.2)  # spread of the sizes in this shop
        self.authors = ["ada", "grace", "kurt", "emmy"]
        self.columns = self.draw.randint(8, 30)
        self.rows = self.draw.randint(2_000, 200_000)
        self.period = self.draw.choice([6.0, 24.0])  # of its batches, in hours
        self.when: list[tuple[float, Callable[[], None]]] = []
        self.versions = 1
        self.packages = "p1"
        self.model: Record | None = None
        self.region = "production-eu"  # where it goes wrong

    def tell(
        self, kind: str, hours: float, body: dict[str, Any], *parents: Record, environment: str | None = None,
        commit: str | None = None, of: str = "fares",
    ) -> Record:  # fmt: skip
        self.number += 1
        found = Record(
            kind=kind,  # type: ignore[arg-type]
            deliverable=of,
            environment=environment,
            commit=commit,
            body=body,
            parents=tuple(one.id for one in parents),
            at=(START + timedelta(hours=hours)).isoformat(timespec="seconds"),
            source={"dag": of, "run": f"run-{self.number}", "task": kind, "map_index": -1},
        )
        self.episode.records.append(found)
        return found

    def sha(self, name: str = "") -> str:
        self.number += 1
        return hashlib.sha1(f"{self.tag} {name} {self.number}".encode()).hexdigest()

    def lines(self) -> int:
        return max(1, round(math.exp(self.draw.gauss(3.5, self.size))))

    # What happens; each returns the record that is the change, and the hour at which it takes effect.

    def code(
        self,
        hour: float,
        *,
        worse: bool = False,
        skip_staging: bool = False,
        of: str = "fares",
        region: str = "",
    ) -> tuple[list[Record], float]:
        """A commit is built, soaks in staging, and comes to one region and, later, mostly to the other."""
        author = self.draw.choice(self.authors)
        lines = self.lines()
        if worse and self.draw.random() < 0.5:
            lines *= self.draw.randint(2, 6)
        if worse and self.draw.random() < 0.2:
            author = "new"
        body = {"commit": self.sha(), "subject": f"Work {self.number}", "author": author, "lines": lines}
        born = self.tell("commit", hour, body, commit=body["commit"], of=of)
        self.tell("validation", hour + 0.1, {"subject": "tests", "passed": True}, born, of=of)
        made = {"digest": f"sha256:{self.sha() * 2}"[:71], "bases": ["b1"]}
        image = self.tell("image", hour + 0.2, made, born, of=of)
        soak = self.draw.choice([0.5, 2.0, 20.0])
        if not skip_staging and self.draw.random() < 0.85:
            self.deploy(hour + 0.4, image, "staging", of)
        else:
            soak = 0.3
        region = region or self.draw.choice(REGIONS)
        change = self.deploy(hour + 0.4 + soak, image, region, of)
        if self.draw.random() < 0.7:
            (other,) = set(REGIONS) - {region}
            self.deploy(hour + 0.4 + soak + self.draw.choice([0.2, 3, 24]), image, other, of)
        return [born, change], hour + 0.4 + soak

    def deploy(self, hour: float, made: Record, environment: str, of: str = "fares") -> Record:
        change = self.tell(
            "change", hour, {"commit": self.sha(), "changed": True, "file": f"{environment}/kustomization.yaml"},
            made, environment=environment, of=of,
        )  # fmt: skip
        self.tell(
            "release", hour + self.draw.uniform(0.03, 0.1), {"revision": change.body["commit"], "health": "Healthy"}, change,
            environment=environment, of=of,
        )  # fmt: skip
        return change

    def image(self, hour: float, region: str = "") -> tuple[list[Record], float]:
        """The same commit on another base image."""
        made = self.tell("image", hour, {"digest": f"sha256:{self.sha() * 2}"[:71], "bases": [self.sha()]})
        change = self.deploy(hour + 0.3, made, region or self.draw.choice(REGIONS))
        return [made, change], hour + 0.3

    def config(
        self, hour: float, *, worse: bool = False, of: str = "fares", region: str = ""
    ) -> tuple[list[Record], float]:
        region = region or self.draw.choice(REGIONS)
        path, value = self.draw.choice(
            [
                ("timeout", 30),
                ("cache.size", 100),
                ("replicas", 3),
                ("retries", 2),
                ("featureFlags.fast", True),
            ]
        )
        paths = {path: value, **({"log.level": "info"} if self.draw.random() < 0.3 else {})}
        if worse and self.draw.random() < 0.4:
            paths |= {f"worker.p{n}": n for n in range(self.draw.randint(2, 5))}
        body = {"commit": self.sha(), "changed": True, "file": f"{region}/values.yaml", "set": paths}
        author = self.draw.choice(self.authors)
        change = self.tell("change", hour, {**body, "author": author}, environment=region, of=of)
        self.live(hour + 0.05, change)
        return [change], hour

    def live(self, hour: float, change: Record) -> None:
        body = {"revision": change.body["commit"], "health": "Healthy"}
        self.tell("release", hour, body, change, environment=change.environment, of=change.deliverable)

    def stated(self, hour: float, subject: str, **more: Any) -> tuple[list[Record], float]:
        """A change outside of Git that somebody records."""
        body = {"subject": subject, "changed": True, "file": f"{subject} of the outside"}
        region = more.pop("region", "") or self.draw.choice(REGIONS)
        return [self.tell("change", hour, {**body, **more}, environment=region)], hour

    def prompt(self, hour: float, region: str = "") -> tuple[list[Record], float]:
        region = region or self.draw.choice(REGIONS)
        body = {
            "commit": self.sha(), "changed": True, "file": f"{region}/prompts.yaml",
            "set": {f"prompts.{self.draw.choice(['greet', 'answer', 'summarise'])}": self.sha()[:8]},
        }  # fmt: skip
        change = self.tell("change", hour, body, environment=region)
        self.live(hour + 0.05, change)
        return [change], hour

    def retrained(self, hour: float, region: str = "") -> tuple[list[Record], float]:
        self.versions += 1
        data = [one for one in self.episode.records if one.kind == "batch" and one.at <= self.at(hour)][-1:]
        body = {"name": "fares", "version": self.versions, "sha256": self.sha()}
        made = self.tell("model", hour, body, *data)
        self.tell(
            "evaluation", hour + 0.1, {"subject": "challenger", "promote": True, "outcome": "better"}, made
        )
        region = region or self.draw.choice(REGIONS)
        change = self.deploy(hour + 0.5, made, region)
        if self.draw.random() < 0.7:
            self.deploy(hour + 0.5 + self.draw.choice([0.5, 24]), made, *(set(REGIONS) - {region}))
        self.model = made
        return [made, change], hour + 0.5

    def batch(self, hour: float, *, columns: int = 0, moved: bool = False, silent: bool = False) -> Record:
        rows = round(self.rows * math.exp(self.draw.gauss(0, 0.1)))
        body = {
            "batch": f"b{self.number}",
            "rows": rows,
            "digest": self.sha(),
            "columns": self.columns + columns,
        }
        # It is made by what is live of the upstream.
        made = [one for one in self.episode.records if one.deliverable == "weather" and one.kind == "release"]
        found = self.tell("batch", hour, body, max(made, key=lambda one: (one.at <= self.at(hour), one.at)))
        wolf = self.draw.random() < 0.04
        if not silent:
            self.tell(
                "validation", hour, {"subject": "data", "passed": not wolf, "batch": body["batch"]}, found
            )
            drifted = moved or self.draw.random() < 0.07
            self.tell(
                "drift", hour + 0.05, {"subject": "data", "drifted": drifted, "share": 0.4 if drifted else 0.0,
                "batch": body["batch"]}, found,
            )  # fmt: skip
        return found

    def make(self) -> Episode:
        """Let innocent changes happen, then the cause, and then what is seen of it."""
        draw, episode, cause = self.draw, self.episode, self.episode.cause
        end = 24.0 * DAYS
        onset = end - draw.uniform(0, 24)
        self.first()
        lag = self.lag(cause)
        hour = onset - lag
        stopped = hour if cause == "late" else math.inf
        self.batches(onset, stopped, hour if cause in ("schema", "units") else math.inf)
        innocents = draw.randint(5, 30)
        episode.innocent = innocents
        for _ in range(innocents):
            self.innocent(onset)
        if cause not in ("schema", "units", "late", "nothing"):
            self.cause(cause, hour)
        self.seen(cause, onset)
        episode.records.sort(key=lambda one: one.at)
        episode.records = [one for one in episode.records if one.at <= self.at(onset + 2)]
        return episode

    def at(self, hours: float) -> str:
        return (START + timedelta(hours=hours)).isoformat(timespec="seconds")

    def first(self) -> None:
        """What was there from the beginning."""
        for region in REGIONS:
            self.code(0.0, region=region)
            self.code(0.0, of="weather", region=region)
            self.code(0.0, of="basket", region=region)
            self.retrained(1.0, region)
            self.config(2.0, region=region)
        self.tell(
            "evaluation", 3.0, {"subject": "performance", "metric": "auc", "value": 0.8, "worse": False}
        )

    def lag(self, cause: str) -> float:
        """Hours between taking effect and being there to be seen, by a rule of this generator alone."""
        draw = self.draw
        if cause in ("model", "prompt", "provider"):
            return draw.choice([draw.uniform(1, 30), draw.gammavariate(2, 4)])
        if cause == "late":
            return draw.uniform(1.2, 2.0) * self.period
        if cause in ("schema", "units"):
            return draw.choice([0.1, draw.uniform(0.2, 12)])
        if cause == "secret":
            return draw.uniform(0.01, 6)
        return draw.choice([0.08, draw.gammavariate(1.5, 0.4), draw.uniform(0.1, 8)])

    def batches(self, until: float, stopped: float, bad: float) -> None:
        """Batches on their schedule, each a little late; one of them bad, or the last one missing."""
        hour = self.draw.uniform(0, self.period)
        marked = False
        while hour < until:
            arrives = hour + abs(self.draw.gauss(0, 0.1))
            if arrives >= stopped:
                last = [one for one in self.episode.records if one.kind == "batch"][-1]
                self.episode.truth.add(last.id)
                return
            # The last one before the hour at which the cause lies is it; it is moved there.
            if not marked and hour + self.period > bad:
                arrives = min(bad, until - 0.05)
                found = self.batch(
                    arrives, columns=self.draw.choice([-1, 1, 2]) if self.episode.cause == "schema" else 0,
                    moved=self.episode.cause == "units" and self.draw.random() < 0.7,
                )  # fmt: skip
                self.episode.truth.add(found.id)
                marked = True
                hour = max(hour + self.period, arrives + 0.5)
                continue
            self.batch(arrives)
            hour += self.period

    def innocent(self, until: float) -> None:
        """A change that breaks nothing, in office hours mostly, and now and then in a burst."""
        draw = self.draw
        for _ in range(20):
            hour = draw.uniform(4, until - 0.02)
            if 8 <= hour % 24 <= 18 or draw.random() < 0.25:
                break
        if draw.random() < 0.12:
            hour = until - draw.uniform(0.02, 6)  # close to the incident, and innocent
        what = draw.choices(
            ["code", "config", "image", "prompt", "model", "provider", "secret", "library"],
            [10, 8, 2, 3, 2, 1, 1, 1],
        )[0]
        where = draw.random()
        if where < 0.4:  # of another team: upstream of this one, or beside it
            other = "weather" if where < 0.15 else "basket"
            (self.code if what in ("code", "image", "model") else self.config)(hour, of=other)
        elif what == "code":
            self.code(hour - 1)
        elif what in ("provider", "secret", "library"):
            self.stated(hour, what, **({"effective": self.at(hour)} if what == "secret" else {}))
        elif what == "model":
            self.retrained(hour)
        else:
            getattr(self, what)(hour)

    def cause(self, cause: str, hour: float) -> None:
        if cause == "code":
            # It is brought to production at the hour; it was committed before.
            before = len(self.episode.records)
            told, lands = self.code(
                0.0, worse=True, skip_staging=self.draw.random() < 0.4, region=self.region
            )
            self.moved(before, hour - lands)
            told = [one for one in self.episode.records[before:] if one.kind in ("commit", "change")]
            told = [one for one in told if one.kind == "commit" or one.environment == self.region]
        elif cause == "config":
            told, _ = self.config(hour, worse=True, region=self.region)
        elif cause == "provider":
            told, _ = self.stated(hour, "provider", region=self.region)
        elif cause == "secret":
            told, _ = self.stated(max(4.0, hour - 100), "secret", effective=self.at(hour), region=self.region)
        elif cause == "model":
            told, _ = self.retrained(hour - 0.5, self.region)
        elif cause == "image":
            told, _ = self.image(hour - 0.3, self.region)
        else:
            told, _ = self.prompt(hour, self.region)
        self.episode.truth = {one.id for one in told}

    def moved(self, first: int, hours: float) -> None:
        """Put the last records at another time, with their ids and those that name them."""
        renamed: dict[str, str] = {}
        for place in range(first, len(self.episode.records)):
            one = self.episode.records[place]
            at = (datetime.fromisoformat(one.at) + timedelta(hours=hours)).isoformat(timespec="seconds")
            new = Record(
                one.kind, one.deliverable, one.body, tuple(renamed.get(p, p) for p in one.parents), one.environment,
                one.commit, at, one.source, one.evidence,
            )  # fmt: skip
            renamed[one.id] = new.id
            self.episode.records[place] = new

    def seen(self, cause: str, onset: float) -> None:
        """What is recorded of it, a little after the onset."""
        draw, episode = self.draw, self.episode
        episode.shows = shows = draw.choice(_SHOWS[cause])
        # Those who look say how long all was well before: from what is watched every minute, or by the last run.
        well = onset - (draw.uniform(0.02, 0.3) if shows == "degraded" else draw.uniform(0.1, self.period))
        found = onset + draw.uniform(0.0, 0.1 if shows == "degraded" else 0.5)
        interval = [self.at(well), self.at(found)]
        if shows == "metric":
            body = {"subject": "performance", "metric": "auc", "value": 0.6, "worse": True, "onset": interval}
            told = self.tell("evaluation", found, body)
        elif shows == "drift":
            batches = [one for one in episode.records if one.kind == "batch" and one.at <= self.at(found)]
            last = max(batches, key=lambda one: one.at)
            told = self.tell("drift", found, {"subject": "watched", "drifted": True, "onset": interval}, last)
        elif shows == "data":
            batches = [one for one in episode.records if one.kind == "batch" and one.at <= self.at(found)]
            last = max(batches, key=lambda one: one.at)
            told = self.tell(
                "validation", found, {"subject": "contract", "passed": False, "onset": interval}, last
            )
        else:
            what = {"degraded": "fares is Degraded", "failure": "the run of fares failed"}[shows]
            told = self.tell("incident", found, {"what": what, "onset": interval}, environment=self.region)
        episode.symptom = told.id


def episodes(count: int, first: int = 0) -> list[Episode]:
    """So many episodes, each cause in turn."""
    return [History(CAUSES[number % len(CAUSES)], first + number).make() for number in range(count)]
