"""A ledger as a few months of work leave it: a service and a model, and beside them as many deliverables as are wanted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.records import Evidence, Record
from tests.ledgers import entry, sha

NOW = datetime.now(timezone.utc).replace(microsecond=0)


class Story:
    """Records, one after the other.

    :param dag: that tells them.
    """

    def __init__(self, dag: str = "code_to_release") -> None:
        self.records: list[Record] = []
        self.dag = dag

    def tell(
        self,
        kind: str,
        ago: float,
        body: Mapping[str, Any],
        *parents: Record | str,
        of: str,
        environment: str | None = None,
        commit: str | None = None,
        task: str = "",
        evidence: tuple[Evidence, ...] = (),
    ) -> Record:
        """Add a record that was made so many hours ago."""
        made = Record(
            kind=kind,  # type: ignore[arg-type]
            deliverable=of,
            environment=environment,
            commit=commit,
            body=body,
            parents=tuple(one if isinstance(one, str) else one.id for one in parents),
            at=(NOW - timedelta(hours=ago)).isoformat(timespec="seconds"),
            source={"dag": self.dag, "run": f"run-{int(ago)}", "task": task or kind, "map_index": -1},
            evidence=evidence,
        )
        self.records.append(made)
        return made

    def ship(self, of: str, name: str, ago: float, **changes: Any) -> tuple[Record, Record]:
        """Ship a commit of a service to staging and to production."""
        commit = sha(name)
        born = self.tell(
            "commit",
            ago,
            {
                "commit": commit,
                "subject": changes.pop("subject", f"Work on {of}"),
                "author": "Ines Moreau",
                "time": (NOW - timedelta(hours=ago + 3)).isoformat(),
            },
            of=of,
            commit=commit,
        )
        tests = self.tell(
            "validation",
            ago - 0.1,
            {
                "subject": "tests",
                **{"tests": 214, "passed": 212, "failed": 0, "skipped": 2},
                "test-result": {"result": "PASSED"},
            },
            born,
            of=of,
            commit=commit,
        )
        digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
        image = self.tell(
            "image",
            ago - 0.2,
            {
                "reference": f"registry.example.com/shop/{of}:{changes.pop('tag', commit[:7])}@{digest}",
                "digest": digest,
                "builder": "buildah",
            },
            born,
            tests,
            of=of,
            commit=commit,
        )
        found = []
        for number, environment in enumerate(("staging", "production")):
            desired = sha(f"{name}-{environment}")
            change = self.tell(
                "change",
                ago - 0.4 - number,
                {"commit": desired, "changed": True, "file": f"{of}/{environment}/kustomization.yaml"},
                image,
                of=of,
                environment=environment,
                task=f"set_{environment}",
            )
            body = {
                "app": f"{of}-{environment}",
                "revision": desired,
                "health": "Healthy",
                "sync": "Synced",
                "rule": "live",
                "reason": "the revision is live and healthy",
                "url": f"https://argocd.example.com/applications/{of}-{environment}",
            }
            found.append(
                self.tell(
                    "release",
                    ago - 0.6 - number,
                    {**body, **changes.get(environment, {})},
                    change,
                    of=of,
                    environment=environment,
                    task=f"{environment}_is_live",
                )
            )
        return found[0], found[1]


def service(story: Story) -> None:
    """Ship a service, again and again; once it goes bad and is put back."""
    story.dag = "code_to_release"
    for number, ago in enumerate((1900, 1500, 1180, 860, 620, 400, 260)):
        story.ship("delay-api", f"v{number}", ago, tag=f"1.{number}.0")
    _, bad = story.ship("delay-api", "bad", 150, tag="1.7.0", subject="Cache answers by airport")
    what = story.tell(
        "incident",
        147.5,
        {"what": "delay-api in production is Degraded: 3 of 4 pods restart", "app": "delay-api-production"},
        bad,
        of="delay-api",
        environment="production",
        task="look",
    )
    back = story.tell(
        "change",
        147.2,
        {
            "commit": sha("back"),
            "changed": True,
            "reverts": bad.body["revision"],
            "reason": "production is Degraded",
        },
        what,
        of="delay-api",
        environment="production",
        task="revert",
    )
    story.tell(
        "release",
        147,
        {
            "app": "delay-api-production",
            "revision": sha("back"),
            "health": "Healthy",
            "sync": "Synced",
            "reason": "the revision is live and healthy",
        },
        back,
        of="delay-api",
        environment="production",
    )
    story.ship("delay-api", "v8", 52, tag="1.8.0", subject="Cache answers by airport and day")
    story.dag = "desired_state_drift"
    story.tell(
        "differences",
        20,
        {
            "app": "delay-api-staging",
            "sync": "OutOfSync",
            "verdict": "different",
            "reason": "Deployment/delay-api replicas 2, Git says 4",
        },
        of="delay-api",
    )


def model(story: Story, evidence: tuple[Evidence, ...] = ()) -> None:
    """Measure a model month by month, retrain it, and release what is better."""
    of, story.dag = "flight-delay", "drift_to_retrain"
    data = story.tell(
        "dataset", 2200, {"rows": 330_112, "batch": "2013-01 to 2013-03", "digest": sha("data")}, of=of
    )
    first = _released(story, of, 2150, data, 1, 0.741)
    assert first
    columns = (
        "dep_hour",
        "wind_gust",
        "origin",
        "distance",
        "carrier",
        "temperature",
        "visibility",
        "day_of_week",
    )
    for month in range(10):
        ago, batch = 2000 - month * 200, f"2013-{month + 3:02d}"
        moved = 0.5 + 0.5 * math.sin(month / 1.6)
        found = [
            {
                "column": name,
                "verdict": "drift" if 0.02 + moved * 0.12 / (at + 1) > 0.1 else "steady",
                "score": round(0.02 + moved * 0.12 / (at + 1), 4),
                "threshold": 0.1,
                "noise": 0.012,
            }
            for at, name in enumerate(columns)
        ]
        share = sum(item["verdict"] == "drift" for item in found) / len(found)
        gate = story.tell(
            "validation",
            ago + 2,
            {
                "subject": "data",
                "passed": month != 6,
                "evaluated": 14,
                "failed": int(month == 6),
                "batch": batch,
            },
            of=of,
        )
        drift = story.tell(
            "drift",
            ago,
            {
                "subject": "data",
                "verdict": "drift" if share else "steady",
                "drifted": bool(share),
                "share": share,
                "drift_share": 0.3,
                "columns": found,
                "columns_drifted": round(share * 8),
                "batch": batch,
            },
            gate,
            of=of,
            evidence=evidence if month == 9 else (),
        )
        value = 0.735 - 0.012 * (month if month < 5 else month - 5)
        measured = story.tell(
            "evaluation",
            ago - 1,
            {
                "subject": "performance",
                "metric": "auc",
                "value": round(value, 4),
                "low": round(value - 0.013, 4),
                "high": round(value + 0.013, 4),
                "reference": 0.70,
                "worse": value < 0.687,
                "verdict": "worse" if value < 0.687 else "steady",
                "batch": batch,
            },
            drift,
            of=of,
        )
        retrain = month == 4
        decision = story.tell(
            "decision",
            ago - 2,
            {
                "action": "retrain" if retrain else "hold",
                "rule": "gain",
                "acts": retrain,
                "mode": "act",
                "reasons": ["The AUC is .047 below the level, in two of three batches; a retrain pays."]
                if retrain
                else ["The AUC is within what people accepted."],
                "observation": {"batch": batch},
            },
            drift,
            measured,
            gate,
            of=of,
        )
        if retrain:
            data = story.tell(
                "dataset",
                ago - 3,
                {"rows": 412_008, "batch": "2013-04 to 2013-07", "digest": sha("more")},
                of=of,
            )
            _released(story, of, ago - 4, data, 2, 0.752, decision)


def _released(
    story: Story, of: str, ago: float, data: Record, version: int, auc: float, *because: Record
) -> Record:
    made = story.tell(
        "model",
        ago,
        {
            "name": of,
            "version": version,
            "sha256": hashlib.sha256(str(version).encode()).hexdigest(),
            "metrics": {"auc": auc},
        },
        data,
        *because,
        of=of,
        commit=sha(f"train-{version}"),
    )
    judged = story.tell(
        "evaluation",
        ago - 0.5,
        {
            "promote": True,
            "reason": f"The challenger's AUC is {auc}, that of the champion {auc - 0.03:.3f}",
            "metric": "auc",
            "challenger": auc,
        },
        made,
        of=of,
    )
    for number, environment in enumerate(("staging", "production")):
        desired = sha(f"{of}-{version}-{environment}")
        change = story.tell(
            "change",
            ago - 1 - number,
            {"commit": desired, "changed": True, "file": f"{of}/{environment}/model.yaml"},
            judged,
            of=of,
            environment=environment,
        )
        last = story.tell(
            "release",
            ago - 1.4 - number,
            {
                "app": f"{of}-{environment}",
                "revision": desired,
                "health": "Healthy",
                "sync": "Synced",
                "reason": "the revision is live and healthy",
            },
            change,
            of=of,
            environment=environment,
        )
    return last


def others(story: Story) -> None:
    """Ship a few more, each with a state of its own."""
    story.dag = "platform"
    states: dict[str, dict[str, Any]] = {
        "basket": {},
        "checkout": {"production": {"health": "Progressing"}},
        "crew-rota": {"staging": {"sync": "OutOfSync"}},
        "gate-display": {"production": {"health": "Degraded", "reason": "readiness probes of 2 pods fail"}},
        "loyalty": {},
        "seat-map": {"production": {"health": "Unknown"}},
        "weather-feed": {},
    }
    for number, (name, changes) in enumerate(states.items()):
        story.ship(name, f"{name}-1", 700 - 60 * number, **changes)
    story.tell("commit", 3, {"subject": "Newer than what is live"}, of="loyalty", commit=sha("newer"))
    gone = "0" * 64
    story.tell(
        "release",
        30,
        {"app": "weather-feed-production", "revision": sha("w"), "health": "Healthy", "sync": "Synced"},
        gone,
        of="weather-feed",
        environment="production",
    )


def many(count: int) -> Iterator[Record]:
    """Ship as many services as are wanted."""
    story = Story("platform")
    for number in range(count):
        story.ship(f"service-{number:04d}", f"many-{number}", 10 + number % 700)
    yield from story.records


def numbered(records: list[Record], first: int = 1) -> list[Entry]:
    """Return entries in the order in which Airflow would have stored them."""
    ordered = sorted(records, key=lambda one: one.at)
    return [entry(seq, one) for seq, one in enumerate(ordered, first)]


def seed(path: Path, records: list[Record]) -> None:
    """Write an index."""
    index = Index.open(path)
    index.add(numbered(records, index.revision + 1))
    index.close()


def whole(evidence: tuple[Evidence, ...] = ()) -> list[Record]:
    """Tell all of it."""
    story = Story()
    service(story)
    model(story, evidence)
    others(story)
    return story.records
