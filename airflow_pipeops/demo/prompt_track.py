"""The prompt's track: a first release by a person, a commit that the gate stops, and one that is better and released."""

from __future__ import annotations

import json
from typing import Any

import yaml

from airflow_pipeops.demo.seeds import PROMPT
from airflow_pipeops.demo.teller import Teller
from airflow_pipeops.llm.prompts.prompt import Prompt
from airflow_pipeops.llm.prompts.registry import MLflowPlace

DAG = "prompt_to_release"
#: Aircraft that are no items: what is known from the first version on, and what only the last one has examples like.
_COMMON = "N684WN: 737-3TO of 1988, 2 engines, 149 seats"
_RARE = "N353AA: 767-323 of 1988, 2 engines, 330 seats"


class PromptTrack:
    """Ships the commits of a prompt.

    :param teller: shared with the other tracks.
    """

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.claims = teller.claims

    def run(self) -> None:
        """Tell the track."""
        self.first_release()
        self.worse()
        self.better()

    def push(self, number: int) -> str:
        """Push a version of the prompt; return the run that it started."""
        known = self.teller.runs(DAG)
        sha = self.teller.stack.seeds.push_prompt(number)
        self.teller.say(f"    prompt: commit {sha[:8]} pushed")
        return self.teller.new_run(DAG, known)

    def released(self, number: int) -> dict[str, Any]:
        """Push a version, let a person approve it, and claim that it arrived where the application reads it."""
        run = self.push(number)
        self.teller.approve(DAG, run, "prompt")
        state = self.teller.follow(DAG, run, "prompt")
        self.claims.equal(f"version {number} of the prompt was released", state, "success")
        pushed = self.teller.api.xcom(DAG, run, "read")
        self.claims.equal(
            f"production works with version {number}", self.live(), json.loads(pushed["content"])
        )
        self.claims.equal(
            f"Git and the registry name version {number}",
            (self.wanted(), self.registered()),
            (pushed["sha256"],) * 2,
        )
        return self.teller.api.xcom(DAG, run, "gate") or {}

    def first_release(self) -> None:
        """There is nothing yet that it could be held against: a person decides alone."""
        self.teller.chapter("Prompt: a commit to a prompt becomes a release")
        self.teller.wait(
            "the prompt's watcher looks", lambda: self.teller.api.asset_state(f"{PROMPT}.push") or None
        )
        self.released(1)
        self.claims.equal("production knows who made a Boeing 737", self.maker(_COMMON), "Boeing")
        self.claims.check(
            "it does not know who made a Boeing 767", (said := self.maker(_RARE)) != "Boeing", said
        )

    def worse(self) -> None:
        """A commit takes examples away: its answers are worse, and the gate must not open."""
        self.teller.chapter("Prompt: a prompt that is worse is stopped by its evaluation")
        before = self.live(), self.wanted(), self.registered()
        run = self.push(2)
        state = self.teller.follow(DAG, run, "prompt")
        states = {task["task_id"]: task["state"] for task in self.teller.api.task_instances(DAG, run)}
        self.claims.equal("the worse prompt's run failed", state, "failed")
        self.claims.equal("each item could be asked by it", states["evaluate"], "success")
        self.claims.equal("the gate is what stopped it", states["gate"], "failed")
        found = self.teller.api.xcom(DAG, run, "evaluate")
        self.teller.say(f"    prompt: {found['reason']}")
        self.claims.equal(
            "endpoint, Git and registry still have the prompt before",
            (self.live(), self.wanted(), self.registered()),
            before,
        )

    def better(self) -> None:
        """A commit adds examples of what was not known: it must be found better, and released."""
        self.teller.chapter("Prompt: a better one is released")
        gate = self.released(3)
        self.teller.say(f"    prompt: {gate.get('reason', 'not judged')}")
        self.claims.equal("the gate found it better, beyond chance", gate.get("outcome"), "better")
        self.claims.equal("production now knows who made a Boeing 767", self.maker(_RARE), "Boeing")

    def live(self) -> Any:
        """Return the prompt that production works with, in the form of its file."""
        found = self.teller.wait(
            "production has a prompt", lambda: self.teller.endpoint(f"{PROMPT}-production", "/")
        )
        return found["prompt"]

    def maker(self, aircraft: str) -> str:
        """Let production ask the language model who made an aircraft."""
        found = self.teller.endpoint(f"{PROMPT}-production", f"/maker?aircraft={aircraft.replace(' ', '+')}")
        return str(found and found["maker"])

    def wanted(self) -> str:
        """Return the digest that Git wants in production."""
        documents = yaml.safe_load_all(self.teller.desired(f"apps/{PROMPT}/overlays/production/prompt.yaml"))
        content = next(one["data"]["prompt.json"] for one in documents if one["kind"] == "ConfigMap")
        return Prompt.read(content, "prompt.json").sha256

    def registered(self) -> str:
        """Return the digest that the registry shows for production."""
        shown = MLflowPlace(self.teller.stack.registry()).named(PROMPT, "production")
        return shown.sha256 if shown else "none"
