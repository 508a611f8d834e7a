"""Killed between any two steps, and two at once: one act, one record, and a person is called."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.operations.remediation.history import History
from airflow_pipeops.operations.remediation.journal import Journal
from tests.git.conftest import Remote, git
from tests.mortal import HERE, started
from tests.warm import programs

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class Story:
    """An act that does not help: a number in Git is raised, taken back, and a person is called."""

    remote: Remote
    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    number: int = 0
    tip: str = ""

    def start(self, count: int = 1) -> None:
        """Start what makes attempts in processes of their own."""
        script = Path(__file__).with_name("attempts.py")
        self.processes += [started(script, self.folder / "log") for _ in range(count)]

    def anew(self) -> None:
        """Begin another one."""
        self.number += 1
        self.out.mkdir()
        self.tip = git("rev-parse", "main", cwd=self.remote.path).strip()

    @property
    def out(self) -> Path:
        """What comes of it."""
        return self.folder / str(self.number)

    @property
    def history(self) -> History:
        """As it stands."""
        return Journal(self.out / "journal").read()[1]

    def ask(
        self, sight: str = "", owner: str = "first", kill: int = 0, process: int = 0
    ) -> subprocess.Popen[str]:
        """Begin an attempt."""
        at = START + timedelta(minutes=self.number, seconds=bool(sight))
        finding = {
            "kind": "anomaly", "deliverable": "app", "environment": "production",
            "at": (START + timedelta(minutes=self.number)).isoformat(),
        }  # fmt: skip
        settings: dict[str, Any] = {
            "git": str(self.remote.path), "cache": str(self.folder / f"cache{process}"), "finding": finding,
            "journal": str(self.out / "journal"), "out": str(self.out), "owner": owner, "at": at.isoformat(),
            "sight": sight, "kill": kill,
        }  # fmt: skip
        asked = self.processes[process]
        assert asked.stdin is not None
        asked.stdin.write(json.dumps(settings) + "\n")
        asked.stdin.flush()
        return asked

    def answer(self, asked: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for the end of an attempt."""
        assert asked.stdout is not None
        line = asked.stdout.readline()
        assert line, (self.folder / "log").read_text()[-3000:]
        found: dict[str, Any] = json.loads(line)
        assert found.get("killed") is not False, (self.folder / "log").read_text()[-3000:]
        return found

    def half(self, sight: str, owner: str, kills: list[int]) -> tuple[dict[str, Any], int]:
        """One task: killed at these steps of its attempts, and then left alone."""
        for killed, kill in enumerate((*kills, 0)):
            found = self.answer(self.ask(sight, owner, kill))
            if "killed" not in found:
                return found, killed
        raise AssertionError("the last attempt is never killed")

    def check(self, killed: int) -> None:
        """One act, its inverse, one record of each task, one operation, and somebody was called."""
        subjects = git("log", "--format=%s", f"{self.tip}..main", cwd=self.remote.path).splitlines()
        assert subjects == [
            "Set replicas of app@production from 4 to 3",
            "Set replicas of app@production from 3 to 4",
        ]
        (operation,) = self.history.operations
        assert (operation.state, operation.helped, operation.told) == ("handed_over", False, 1)
        calls = (self.out / "calls").read_text().splitlines()
        # Between a call and the note that it was made lies no act that could be made twice without harm: rather twice.
        assert set(calls) == {"1 app@production"}
        assert len(calls) <= 1 + killed
        assert sorted(path.name for path in self.out.glob("record-*")) == ["record-first", "record-second"]

    def told(self, kills: list[int], later: list[int]) -> int:
        """Tell it from its beginning to its end, with deaths."""
        self.anew()
        first, killed = self.half("", "first", kills)
        assert (first["state"], first["outcome"]) in {("acted", "act"), ("acted", "go on")}
        second, more = self.half("worse", "second", later)
        assert second["state"] == "handed_over"
        self.check(more)
        return killed + more


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("remediation")
    remote = Remote(folder / "remote.git", folder / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git("init", "--quiet", "--initial-branch=main", str(remote.work))
    git("remote", "add", "origin", str(remote.path), cwd=remote.work)
    remote.put("app.yaml", "replicas: 3  # stays\n")
    remote.commit("Begin")
    story = Story(remote, folder)
    story.start(2)
    yield story
    for process in story.processes:
        assert process.stdin is not None
        with process:
            process.stdin.close()


def steps(story: Story) -> tuple[int, int]:
    """How many there are, in each half."""
    story.anew()
    first, _ = story.half("", "first", [])
    second, _ = story.half("worse", "second", [])
    story.check(0)
    return len(first["steps"]), len(second["steps"])


def test_killed_in_the_first_half_and_in_the_second(story: Story) -> None:
    first, second = steps(story)
    chance = random.Random(1)
    killed = 0
    for _ in range(3):
        killed += story.told([chance.randint(1, first)], [chance.randint(1, second)])
    assert killed == 6


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_killed_fifty_times_at_each_step(story: Story) -> None:
    chance = random.Random(2)
    first, second = steps(story)
    killed = 0
    for _ in range(50):
        for step in range(1, max(first, second) + 1):
            again = [chance.randint(1, first) for _ in range(chance.randrange(2))]
            killed += story.told([min(step, first), *again], [min(step, second)])
    assert killed >= 100 * min(first, second)
    print(f"killed {killed} times at {first} + {second} steps")


def test_of_two_at_once_one_acts(story: Story) -> None:
    for _ in range(3):
        story.anew()
        asked = [story.ask(owner=owner, process=place) for place, owner in enumerate(("first", "other"))]
        answers = [story.answer(one) for one in asked]
        assert sorted(one["outcome"] for one in answers) == ["act", "refuse"]
        assert next(one for one in answers if one["outcome"] == "refuse")["stage"] == "lock"
        owner = ("first", "other")[[one["outcome"] for one in answers].index("act")]
        assert [one.owner for one in story.history.operations] == [owner]
        story.half("worse", "second", [])
        subjects = git("log", "--format=%s", f"{story.tip}..main", cwd=story.remote.path).splitlines()
        assert len(subjects) == 2


def test_of_many_writers_of_one_version_one_wins(tmp_path: Path) -> None:
    """Thirty processes add one each; the chain has them all, in some order, without a gap."""
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from airflow_pipeops.operations.remediation.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(10): journal.reset(f'{sys.argv[2]}-{n}', 'ada')\n"
    )
    python = programs().command()
    writers = [subprocess.Popen([python, "-c", program, str(tmp_path), str(n)], env=HERE) for n in range(3)]
    assert [one.wait(120) for one in writers] == [0, 0, 0]
    number, history = Journal(tmp_path).read()
    assert number == 30
    assert len({one.scope for one in history.resets}) == 30
    assert not list(tmp_path.rglob("*.draft"))
