"""A process of its own for judgements that may take for ever: a pattern that backtracks holds up no worker.

The file is also the program of that process, which knows only Python's library, and jsonschema where it is installed.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from typing import Any

#: Seconds that the process has to begin, on a busy machine; bytes of memory that it may have.
_BEGIN, _MEMORY = 60.0, 1024**3


class TooSlow(Exception):
    """A judgement took longer than it may."""


class Referee:
    """The process, begun when it is first asked, and again after a judgement that took too long.

    :param seconds: that one judgement has.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def judge(self, question: dict[str, Any]) -> dict[str, Any]:
        """Let it judge.

        :param question: ``{"do": "regex", ...}`` or ``{"do": "schema", ...}``.
        :return: ``{"passed": bool}`` or ``{"error": why it cannot be told}``.
        :raises TooSlow: if it took longer than it may; the process is ended.
        """
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
                )
                self._line(_BEGIN)
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(question).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                self.close()
                raise TooSlow("the process that judges has died") from None
            found: dict[str, Any] = json.loads(self._line(self._seconds))
            return found

    def _line(self, seconds: float) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        # It answers in one short line, which a pipe holds whole.
        if not select.select([process.stdout], [], [], seconds)[0] or not (line := process.stdout.readline()):
            self.close()
            raise TooSlow(f"it took longer than {seconds:g} s, or too much memory")
        return line

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _regex(question: dict[str, Any]) -> dict[str, Any]:
    found = re.search(question["pattern"], question["text"], re.DOTALL)
    return {"passed": found is not None}


def _schema(question: dict[str, Any]) -> dict[str, Any]:
    import jsonschema

    try:
        value = json.loads(question["text"])
    except ValueError:
        return {"passed": False, "label": "no JSON"}
    kind = jsonschema.validators.validator_for(question["schema"], jsonschema.Draft202012Validator)
    error = next(iter(kind(question["schema"]).iter_errors(value)), None)
    return {"passed": error is None, "label": "" if error is None else str(error.validator)}


def _main() -> None:
    import importlib.util
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if importlib.util.find_spec("jsonschema"):
        import jsonschema  # noqa: F401  # before the clock runs
    print("{}", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            found = {"regex": _regex, "schema": _schema}[question["do"]](question)
        except (RecursionError, MemoryError) as error:
            found = {"error": type(error).__name__}
        except Exception as error:  # of a pattern or a schema: what it says may quote the answer
            found = {"error": f"{type(error).__name__} in {question['do']}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main()
