"""Attempts, each in a process of its own, which may be killed at a step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.warm import programs

#: The package beside these tests, and no other one that is installed.
HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
_done: list[str] = []
_kill = 0


def step(name: str = "") -> None:
    """Die here, if this is the place."""
    _done.append(name)
    if len(_done) == _kill:
        os.kill(os.getpid(), signal.SIGKILL)


def mortal(owner: type, *names: str) -> None:
    """Let methods have a step before and one after each call."""
    for name in names:
        setattr(owner, name, _stepping(getattr(owner, name), name))


def _stepping(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        step(f"before {name}")
        found = method(self, *args, **kwargs)
        step(f"after {name}")
        return found

    return called


def attempts(attempt: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read settings from the input, one JSON object a line, and make an attempt with each, in a process of its own.

    What it returned is printed as a line of JSON, with the names of its ``steps``; of one that has died, whether it was
    ``killed``.

    :param attempt: of the settings, whose ``kill`` is the number of the step at which it dies; 0 for never.
    """
    global _kill
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # A log that goes to the standard output is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        settings = json.loads(line)
        if pid := os.fork():
            status = os.waitpid(pid, 0)[1]
            if status:
                print(json.dumps({"killed": os.WIFSIGNALED(status)}), file=answers, flush=True)
            continue
        _kill = settings["kill"]
        try:
            print(json.dumps({**attempt(settings), "steps": _done}), file=answers, flush=True)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)


def started(script: Path, log: Path) -> subprocess.Popen[str]:
    """Start a script that makes :func:`attempts`.

    :param script: of Python.
    :param log: takes what the script says beside its answers.
    """
    with log.open("a", encoding="utf-8") as errors:
        return subprocess.Popen(
            [programs().command(), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=HERE,
        )
