"""The model's track: a first champion, a year of real flights, drift, decisions and retrains, and a release taken back."""

from __future__ import annotations

from typing import Any

import yaml

from airflow_pipeops.demo.late_labels import LateLabels
from airflow_pipeops.demo.teller import Teller

NAME = "flight-delay"
FIRST_MONTHS = (1, 2)
LATER_MONTHS = range(3, 13)


class ModelTrack:
    """Delivers the data and follows what becomes of it.

    :param teller: shared with the service's track.
    """

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.claims = teller.claims
        self.decisions: list[str] = []
        self.drifted: list[int] = []
        self.promoted: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        """Tell the track."""
        self.first_champion()
        self.teller.chapter("Model: the year goes on, a month of real flights at a time")
        for month in LATER_MONTHS:
            self.month(month)
        self.sum_up()
        LateLabels(self.teller, self.live).run()
        self.live_is_champion("the model that came back")

    def first_champion(self) -> None:
        """Two months of data arrive and become the first champion."""
        self.teller.chapter("Model: two months of flights become the first champion")
        known = self.teller.runs("data_to_model")
        self.teller.stack.deliver_history(FIRST_MONTHS)
        run = self.teller.new_run("data_to_model", known)
        state = self.teller.follow("data_to_model", run, "model")
        self.claims.equal("data alone started the first training, and it succeeded", state, "success")
        self.live_is_champion("the first champion")

    def month(self, month: int) -> None:
        """Deliver a month; follow the decision, and the retrain if that is what was decided."""
        trainings = self.teller.runs("data_to_model")
        name = self.teller.stack.deliver_month(month).name
        run = self.judging(name)
        state = self.teller.follow("drift_to_retrain", run, f"month {month}")
        if state != "success":
            self.claims.check(f"month {month} was judged", False, state)
            return
        judged = [
            uri.rpartition("/")[2] for uri in self.teller.api.xcom("drift_to_retrain", run, "new_batches")
        ]
        drift, decision = (
            self.teller.api.xcom("drift_to_retrain", run, f"judge.{task}", judged.index(name))
            for task in ("drift", "decide")
        )
        if drift["drifted"] or any(column["drifted"] for column in drift["columns"]):
            self.drifted.append(month)
        self.decisions.append(decision["action"])
        self.teller.say(f"    month {month}: {decision['action']}: {'; '.join(decision['reasons'])}")
        if decision["action"] == "retrain":
            self.retrain(month, self.training(trainings))

    def judging(self, name: str) -> str:
        """Return the run that a batch started. One run may stand for several batches: Airflow merges events."""

        def look() -> str | None:
            for candidate in reversed(self.teller.api.runs("drift_to_retrain")):
                run = str(candidate["dag_run_id"])
                if name in self.teller.batches("drift_to_retrain", run):
                    return run
            return None

        return str(self.teller.wait(f"{name} starts drift_to_retrain by itself", look))

    def training(self, known: set[str]) -> str:
        """Return the training that a decision started (a new batch alone starts a run that stops at its plan)."""

        def look() -> str | None:
            for candidate in self.teller.api.runs("data_to_model"):
                identifier = str(candidate["dag_run_id"])
                if identifier in known:
                    continue
                upstream = {
                    event["source_dag_id"] for event in self.teller.api.upstream("data_to_model", identifier)
                }
                if "drift_to_retrain" in upstream:
                    return identifier
            return None

        return str(self.teller.wait("the decision to retrain starts a training", look))

    def retrain(self, month: int, run: str) -> None:
        """Follow a retrain; claim that production changed only if the challenger was better."""
        before = self.live()
        state = self.teller.follow("data_to_model", run, f"retrain {month}")
        evaluation = self.teller.api.xcom("data_to_model", run, "evaluate") or {}
        self.teller.say(f"    month {month}: challenger: {evaluation.get('reason', 'not evaluated')}")
        if state != "success":
            self.claims.check(f"the retrain of month {month} ran to its end", False, state)
        elif evaluation["promote"]:
            self.promoted.append(str(month))
            self.claims.check(
                f"the better challenger of month {month} went live", self.live() != before, self.live()
            )
            self.live_is_champion(f"the challenger of month {month}")
        else:
            self.refused.append(str(month))
            self.claims.equal(
                f"the challenger of month {month} was not better and not promoted", self.live(), before
            )

    def sum_up(self) -> None:
        """Claim what the year as a whole must show."""
        held = self.decisions.count("hold")
        self.claims.equal("drift was found in every month from March on", self.drifted, list(LATER_MONTHS))
        self.claims.check(
            "the policy held more often than it retrained", held > len(self.decisions) - held, self.decisions
        )
        self.claims.check("at least one retrain paid and went live", bool(self.promoted), self.promoted)
        self.claims.check("at least one challenger was refused", bool(self.refused), self.refused)

    def live(self) -> dict[str, Any]:
        """Return version and digest of the model that production serves."""
        answer = self.teller.wait(
            "production serves a model",
            lambda: self.teller.endpoint(f"{NAME}-production", f"/v2/models/{NAME}"),
        )
        return {"version": answer["versions"][0], "sha256": answer["parameters"]["sha256"]}

    def live_is_champion(self, which: str) -> None:
        """Claim that endpoint, Git and registry agree."""
        live = self.live()
        champion = self.teller.stack.registry().by_alias(NAME, "champion")
        named = {"version": str(champion.version), "sha256": champion.sha256} if champion else None
        self.claims.equal(f"{which}: production serves the registry's champion", live, named)
        patch = yaml.safe_load(self.teller.desired(f"apps/{NAME}/overlays/production/model.yaml"))
        env = {
            item["name"]: item["value"] for item in patch["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        self.claims.equal(f"{which}: Git says the same", env["MODEL_SHA256"], live["sha256"])
