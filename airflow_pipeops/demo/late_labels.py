"""A chapter of the model's track: a fresher model is released around the gate, and labels that come late take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_pipeops.demo.teller import StoryBroken, Teller

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.models.artifact import Stored

NAME = "flight-delay"
DAG = "model_guard"
#: Months that the fresher model has learned from, and the month whose flights are landed by and by. Neither it nor the model
#: before has seen that one: all that happens here is what those flights did.
LEARNED, JUDGED = (8, 9), 11
LABELS = "november.parquet"
_ENV = "spec.template.spec.containers[name=server].env"
_FIELDS = {
    f"{_ENV}[name=MODEL_URI].value": "artifact_uri",
    f"{_ENV}[name=MODEL_SHA256].value": "sha256",
    f"{_ENV}[name=MODEL_VERSION].value": "version",
}


class LateLabels:
    """Releases by hand, lets labels come, and follows the guard.

    :param teller: shared with the tracks.
    :param live: returns version and digest of the model that production serves.
    """

    def __init__(self, teller: Teller, live: Callable[[], dict[str, Any]]) -> None:
        self.teller = teller
        self.claims = teller.claims
        self.live = live

    def run(self) -> None:
        """Tell the chapter."""
        self.teller.chapter(
            "Model: somebody releases a fresher one around the gate, and late labels take it back"
        )
        before = self.live()
        stored, version = self.released_by_hand()
        known = self.teller.runs(DAG)
        self.flights_land(before["sha256"], stored)
        run = self.teller.new_run(DAG, known)
        came = self.teller.batches(DAG, run)
        self.claims.equal("labels alone started the guard", came, [LABELS])
        self.teller.follow(DAG, run, "guard", until=lambda states: states.get("approve") == "awaiting_input")
        guard = self.teller.api.xcom(DAG, run, "guard") or {}
        self.teller.say(f"    guard: {guard.get('reason')}")
        self.claims.equal("the fresher model is worse, beyond doubt", guard.get("verdict"), "worse")
        if guard.get("verdict") != "worse":
            return
        self.teller.approve(DAG, run, "guard")
        self.claims.equal("the guard ended its work", self.teller.follow(DAG, run, "guard"), "success")
        self.claims.equal("production serves the model before it again", self.live(), before)
        blocked = self.teller.stack.registry().version(NAME, version).blocked
        self.claims.check("the registry keeps why the fresher one is blocked", "worse" in blocked, blocked)

    def released_by_hand(self) -> tuple[Stored, str]:
        """Train on two months, register, commit: what a person can do with the rights of one.

        :return: the artifact, and its version.
        """
        import pandas as pd

        from airflow_pipeops.demo import flights
        from airflow_pipeops.git.repository import GitRepository
        from airflow_pipeops.models import artifact
        from airflow_pipeops.models.desired import ModelInGit

        stack = self.teller.stack
        data = pd.concat([self._month(number) for number in LEARNED], ignore_index=True)
        manifest = artifact.Manifest(
            NAME,
            artifact.features_of(data, flights.FEATURES),
            flights.TARGET,
            time_column=flights.DAY,
            trained_until=str(data[flights.DAY].max()),
        )
        stored = artifact.save(flights.train(data), manifest, stack.home / "artifacts")
        registry = stack.registry()
        version = registry.register(NAME, stored.uri, stored.sha256)
        registry.set_alias(NAME, "champion", version.version)
        desired = ModelInGit(f"apps/{NAME}/overlays/production/model.yaml", _FIELDS)
        git = GitRepository(stack.seeds.deploy_repository.as_uri(), cache_dir=stack.home / "cache")
        why = "The model of August and September is fresher"
        git.commit_edit(desired.file, desired.values(version), why, key="by hand")
        self.teller.say(
            f"    somebody: version {version.version}, of August and September, is committed by hand"
        )

        def look() -> bool | None:
            return self.live()["sha256"] == stored.sha256 or None

        self.teller.wait("production serves what was released by hand", look)
        return stored, version.version

    def flights_land(self, before: str, stored: Stored) -> None:
        """Keep what both models say of November's flights; a day after each, its label is known."""
        import pandas as pd

        from airflow_pipeops.demo import flights
        from airflow_pipeops.models import artifact

        home, registry = self.teller.stack.home, self.teller.stack.registry()
        rows = self._month(JUDGED)
        keys = [f"flight {number}" for number in rows.index]
        found = registry.find(NAME, before)
        if found is None:
            raise StoryBroken(f"production serves a model that the registry does not have: {before}")
        until = []
        for uri, sha256 in ((found.artifact_uri, before), (stored.uri, stored.sha256)):
            loaded = artifact.load(uri, sha256)
            until.append(str(loaded.manifest.trained_until))
            score = loaded.model.predict_proba(rows[list(flights.FEATURES)])[:, 1]
            said = pd.DataFrame({"key": keys, "at": rows["day"], "sha256": sha256, "score": score})
            flights.write(said, home / "predictions" / f"november-{sha256[:12]}.parquet")
        first = str(rows["day"].min())
        self.claims.check(f"neither model has learned from what begins on {first}", max(until) < first, until)
        landed = (pd.to_datetime(rows["day"]) + pd.Timedelta(days=1)).dt.strftime("%Y-%m-%d")
        labels = pd.DataFrame({"key": keys, "at": landed, "label": rows[flights.TARGET]})
        flights.write(labels, home / "labels" / LABELS)
        self.teller.say(f"    labels of {len(labels):,} flights of November have come")

    def _month(self, number: int) -> pd.DataFrame:
        """Return a month as it was delivered."""
        import pandas as pd

        from airflow_pipeops.demo import flights

        folder = self.teller.stack.home / "data"
        return flights.features(pd.read_parquet(folder / f"flights-{flights.YEAR}-{number:02}.parquet"))
