"""Killed at any moment, an evaluation goes on where it was: what was stored is never asked for, nor paid for, again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import openai

SCRIPT = Path(__file__).with_name("killed.py")
ROOT = Path(__file__).parents[3]
#: Calls at a time: what one kill can lose.
PARALLEL = 8


def begun(url: str, folder: Path, items: int, budget: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), url, str(folder), str(items), str(budget)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("items", "kills", "remembers"),
    [
        (60, 2, True),
        pytest.param(1000, 50, False, marks=pytest.mark.nightly),
        pytest.param(1000, 50, True, marks=pytest.mark.nightly),
    ],
)
def test_each_item_is_asked_once_but_for_what_was_under_way(
    items: int, kills: int, remembers: bool, model: openai.Model, url: str, tmp_path: Path
) -> None:
    chance = random.Random(7)
    model.remembers = remembers
    model.delay = lambda number, body: chance.uniform(0.01, 0.05)
    model.fault = lambda number, body: "down" if number % 17 == 5 else ""
    for kill in range(kills):
        process = begun(url, tmp_path, items, 1e9)
        # So far that each attempt gets some of it done, and none all of it.
        target = (kill + 1) * items // (kills + 1) + chance.randrange(3)
        while len(model.paid) < target:
            assert process.poll() is None, process.stderr.read()[-2000:] if process.stderr else ""
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    last = begun(url, tmp_path, items, 1e9)
    out, err = last.communicate(timeout=600)
    assert last.returncode == 0, err[-2000:]
    facts = json.loads(out.splitlines()[-1])
    assert (facts["outcome"], facts["values"], len(model.paid)) == ("complete", items, items)
    twice = sum(model.paid.values()) - items
    assert twice <= (0 if remembers else kills * PARALLEL)
    assert (
        len(model.asked) - sum(1 for n in range(len(model.asked)) if n % 17 == 5) <= items + kills * PARALLEL
    )
    # What was spent is never less than what was paid, and more by the calls that were under way at most.
    most = facts["tokens"] - model.tokens
    assert 0 <= most <= kills * PARALLEL * 300
    print(
        f"{items} items, {kills} kills: {len(model.asked)} calls, {twice} answers paid twice, {most} tokens held for them"
    )


@pytest.mark.timeout(600)
def test_a_budget_holds_across_a_kill(model: openai.Model, url: str, tmp_path: Path) -> None:
    model.answers = lambda body: " ".join(["word"] * 20)
    process = begun(url, tmp_path, 500, 3000)
    while len(model.paid) < 40:
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    out, err = begun(url, tmp_path, 500, 3000).communicate(timeout=300)
    facts = json.loads(out.splitlines()[-1])
    assert facts["outcome"] == "budget", err
    assert model.tokens <= facts["tokens"] <= 3000
