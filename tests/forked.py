"""Programs in processes of their own, forked from one that has imported Airflow once.

Starting a Python that imports it takes seconds, and the documentation has a hundred programs. What is loaded beforehand is
loaded for them too: a program that uses ``airflow.sdk`` and does not import it is still refused, since names are its own;
one that imports a package and uses a module of it that it has not named may pass.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

_FORKS = multiprocessing.get_context("forkserver")
# A fork runs the main module of whoever asks for it once more, which is pytest.
_FORKS.set_forkserver_preload(["airflow.sdk", "pytest"])


def run_text(text: str, folder: Path) -> str | None:
    """Run the text of a program in a folder.

    :return: what it printed, where it failed; else None.
    """
    printed = folder / "printed"
    process = _FORKS.Process(target=_run, args=(text, str(folder), str(printed)))
    process.start()
    process.join(240)
    if process.exitcode == 0:
        return None
    process.kill()
    return f"exit code {process.exitcode}: {printed.read_text() if printed.exists() else ''}"


def _run(text: str, folder: str, printed: str) -> None:
    with open(printed, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    warnings.filterwarnings("error", category=SyntaxWarning)
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(text, "<block>", "exec"), main.__dict__)
