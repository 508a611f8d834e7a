"""Programs in processes of their own, forked from one that has imported Airflow and this package once.

Starting a Python that imports them takes seconds, and the documentation has a hundred programs.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import warnings
from pathlib import Path
from types import ModuleType

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.forked_ready"])


def run_text(text: str, folder: Path) -> str | None:
    """Run the text of a program in a folder.

    :return: what it printed, where it failed; else None.
    """
    return _ended(folder, _text, text)


def run_program(words: list[str], folder: Path) -> str | None:
    """Run a file or a module (``-m name``) with arguments.

    :return: what it printed, where it failed; else None.
    """
    return _ended(folder, _program, words)


def _ended(folder: Path, function: object, given: object) -> str | None:
    printed = folder / "printed"
    process = _FORKS.Process(target=_begin, args=(function, given, str(folder), str(printed)))
    process.start()
    process.join(240)
    if process.exitcode == 0:
        return None
    process.kill()
    return f"exit code {process.exitcode}: {printed.read_text() if printed.exists() else ''}"


def _begin(function, given, folder: str, printed: str) -> None:  # type: ignore[no-untyped-def]
    with open(printed, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    function(given)


def _text(text: str) -> None:
    warnings.filterwarnings("error", category=SyntaxWarning)
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(text, "<block>", "exec"), main.__dict__)


def _program(words: list[str]) -> None:
    module = words[0] == "-m"
    sys.argv = words[1:] if module else words
    if module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
