"""Code in an answer, run in a process that can reach and keep nothing, and held against checks."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, get_args

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.exceptions import InvalidInput, Unsupported
from airflow_pipeops.llm.datasets.dataset import Item
from airflow_pipeops.llm.evaluation.scorers.base import Case, Score, Scorer, Tools
from airflow_pipeops.llm.evaluation.scorers.texts import fenced

#: How code is shut in.
Isolation = Literal["namespaces", "process"]
#: Bytes of memory and of a file that code may have.
_MEMORY, _FILE = 512 * 1024**2, 1024**2

#: New name spaces: no network, no other process to be seen, no terminal; the root of them is nobody outside.
_APART = (
    "unshare", "--user", "--map-root-user", "--net", "--ipc", "--mount", "--pid", "--fork", "--mount-proc",
    "--kill-child", "--",
)  # fmt: skip
#: Inside: the disk can only be read but for the folder, named places are empty, and no right is left to undo that.
_SHUT = """set -e
folder=$1; shift
mount --make-rprivate /
mount --bind "$folder" "$folder"
mount -o remount,bind,ro /
while [ "$1" != -- ]; do mount -t tmpfs -o ro,size=4k tmpfs "$1"; shift; done; shift
cd "$folder"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""
#: The program: limits first, then the answer, then the checks; only who comes to the end of them knows what to write.
_PROGRAM = """
import resource, sys
seconds, memory, file = (int(word) for word in sys.argv[1:4])
for kind, most in (("CPU", seconds), ("AS", memory), ("FSIZE", file), ("NOFILE", 64), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + kind), (most, most))
import os
with open("checks.py") as given: checks = given.read()
with open("word") as given: word = given.read()
os.unlink("checks.py"); os.unlink("word")
with open("answer.py") as given: answer = given.read()
names = {"__name__": "answer"}
try:
    exec(compile(answer, "answer.py", "exec"), names)
except BaseException as error:
    print("answer:", type(error).__name__); sys.exit(3)
try:
    exec(compile(checks, "checks.py", "exec"), names)
except BaseException as error:
    print("checks:", type(error).__name__); sys.exit(4)
sys.stdout.write("\\n" + word + "\\n"); sys.stdout.flush()
os._exit(0)
"""


@dataclass(frozen=True)
class CodeRuns(Scorer):
    """Whether the Python code in an answer passes the item's checks: statements, such as ``assert add(1, 2) == 3``.

    The code runs in a process with an empty environment, a folder of its own, and limits of time, memory and files. By
    ``namespaces`` it has no network, sees no other process, cannot write elsewhere, and finds the worker's home and
    Airflow's folder empty. It is no fence against code that means to break out: answers are mistaken rather than malicious.

    :param checks: for all items; by default each item's ``expected``.
    :param seconds: that the code has, start included.
    :param isolation: ``namespaces``; ``process`` where the kernel allows none, and the model is trusted with your network.
    """

    checks: str = ""
    seconds: int = 10
    isolation: Isolation = "namespaces"
    kind: ClassVar[str] = "code"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("isolation", self.isolation, get_args(Isolation))
        if not isinstance(self.seconds, int) or not 0 < self.seconds <= 600:
            raise InvalidInput(
                "seconds is no time", field="seconds", value=self.seconds, remedy="Give 1 to 600."
            )

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse checks that are no Python, and a machine that cannot shut code in."""
        for checks, where in (
            [(self.checks, "")] if self.checks else [(one.expected, one.id) for one in items]
        ):
            try:
                compile(checks, "checks", "exec")
            except (SyntaxError, TypeError, ValueError) as error:
                raise InvalidInput(
                    f"the checks{f' of item {where!r}' * bool(where)} are no Python: {error}",
                    field="checks",
                    value=where,
                    remedy="Write statements that raise where the answer is wrong.",
                ) from error
        if self.isolation == "namespaces" and (why := cannot_shut_in()):
            raise Unsupported(
                f"code cannot be shut in here: {why}",
                field="isolation",
                value=self.isolation,
                remedy="Allow user namespaces to the worker, or say isolation='process', which leaves it the network.",
            )

    async def score(self, case: Case, tools: Tools) -> Score:
        """Run it."""
        checks = self.checks or str(case.item.expected)
        return await asyncio.to_thread(run, fenced(case.text), checks, self.seconds, self.isolation)


def run(code: str, checks: str, seconds: int, isolation: Isolation) -> Score:
    """Run code, and then its checks in the names that it has made.

    :param code: that is judged.
    :param checks: that raise where it is wrong.
    :param seconds: that both have.
    :param isolation: how it is shut in.
    :return: 1 for code that passes, 0 for any that does not; its label says how it failed.
    """
    from airflow_pipeops.build.process import Command

    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="pipeops-code-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for file, content in (("answer.py", code), ("checks.py", checks), ("word", word)):
            (folder / file).write_text(content, encoding="utf-8", errors="replace")
        program = [python(), "-I", "-S", "-c", _PROGRAM, *map(str, (seconds, _MEMORY, _FILE))]
        if isolation == "namespaces":
            program = shut_in(folder, program)
        env = {"PATH": os.defpath, "HOME": name, "LANG": "C.UTF-8"}
        done = Command(program, cwd=folder, env=env, timeout=timedelta(seconds=seconds)).run()
    if done.status == 0 and done.output.rstrip().endswith(word):
        return Score(1.0)
    if done.timed_out:
        return Score(0.0, "too slow")
    said = {3: "the answer raised", 4: "the checks failed"}.get(done.status, "it ended before its checks")
    return Score(0.0, said)


def python() -> str:
    """Return the interpreter itself, beyond the links of an environment."""
    return os.path.realpath(sys.executable)


def shut_in(folder: Path, program: list[str]) -> list[str]:
    """Return a command that runs a program in name spaces of its own."""
    return [*_APART, "sh", "-c", _SHUT, "sh", str(folder), *_private(), "--", *program]


def _private() -> list[str]:
    """Name the places whose content is nobody's business: the worker's home, Airflow's folder, and secrets of a pod."""
    places = [os.path.expanduser("~"), os.environ.get("AIRFLOW_HOME", ""), "/var/run/secrets", "/run/secrets"]
    found = {os.path.realpath(place) for place in places if place and os.path.isdir(place)}
    kept = [f"{tempfile.gettempdir()}/", python()]
    good = sorted(one for one in found if one != "/" and not any(need.startswith(f"{one}/") for need in kept))
    # What lies below a place that is empty is not there any more.
    return [one for one in good if not any(one.startswith(f"{other}/") for other in good)]


@functools.lru_cache(maxsize=1)
def cannot_shut_in() -> str:
    """Say why code cannot be shut in on this machine; empty where it can."""
    if absent := [name for name in ("unshare", "setpriv", "mount") if not shutil.which(name)]:
        return f"there is no {absent[0]}"
    with tempfile.TemporaryDirectory(prefix="pipeops-code-") as folder:
        tried = subprocess.run(
            shut_in(Path(folder), [python(), "-I", "-S", "-c", "pass"]),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    return "" if tried.returncode == 0 else (tried.stderr.strip() or f"status {tried.returncode}")[:200]
