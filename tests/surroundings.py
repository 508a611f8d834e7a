"""The surroundings of a test: made from nothing, so that the machine decides nothing.

``tests/conftest.py`` calls :func:`arrange` before anything else is imported. What a person's shell, home directory, Git or
Airflow says is out of sight from then on: for the tests, for the processes that they start, and for the workers of
pytest-xdist. Only the names below come in. ``tests/hostile.py`` makes surroundings in which a suite without this fails.
"""

from __future__ import annotations

import atexit
import locale
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

#: What a machine may say: where programs are, who runs them, and where they keep what is for a moment.
KEPT = ("PATH", "USER", "LOGNAME", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "JAVA_HOME", "CI")
#: Settings of the suite itself, and of what runs it.
OURS = ("PIPEOPS_", "HYPOTHESIS_PROFILE", "PYTEST_")
#: What a download needs to know of the machine, see :func:`outside`.
DOWNLOADS = ("HOME", "PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
             "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")  # fmt: skip
#: Given to Git, so that neither the system's configuration nor a person's is obeyed.
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TEMPLATE_DIR": "",
    "GIT_TERMINAL_PROMPT": "0",
}
#: The variables that :func:`arrange` has left; libraries add their own when they are imported.
left: list[str] = []
_FOLDER, _OUTSIDE = "PIPEOPS_TESTS_FOLDER", "PIPEOPS_OUTSIDE_"


def arrange() -> None:
    """Replace the environment of this process, and what it has taken from it.

    :raises pytest.UsageError: where Python was started with something that cannot be undone.
    """
    if not __debug__:
        raise pytest.UsageError("Python runs without assertions (-O or PYTHONOPTIMIZE): no test could fail")
    if sys.getfilesystemencoding() != "utf-8":
        raise pytest.UsageError(
            "Python was started without UTF-8 (LC_ALL, PYTHONUTF8): source .ci/clean before"
        )
    before = dict(os.environ)
    _forget_python_options(before)
    os.environ.clear()
    os.environ.update(_environment(before))
    left[:] = os.environ
    os.umask(0o022)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")  # files are opened with it from here on
    time.tzset()


def outside() -> dict[str, str]:
    """Return the environment for a download: with the machine's home, proxies and certificates, and its caches."""
    seen = {
        name.removeprefix(_OUTSIDE): text for name, text in os.environ.items() if name.startswith(_OUTSIDE)
    }
    return {**os.environ, **seen}


def _environment(before: dict[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in before.items() if name in KEPT or name.startswith(OURS)}
    if _FOLDER not in kept:  # else a worker of pytest-xdist, whose environment is arranged already
        kept |= {_OUTSIDE + name: text for name, text in before.items() if name.startswith(DOWNLOADS)}
        # The folder of downloads stays, else each run would fetch the data again.
        kept.setdefault("PIPEOPS_TEST_DATA", os.path.expanduser("~/.cache/airflow-pipeops"))
        kept[_FOLDER] = tempfile.mkdtemp(prefix="pipeops-tests-")
        atexit.register(shutil.rmtree, kept[_FOLDER], ignore_errors=True)
    home = tempfile.mkdtemp(prefix="home-", dir=kept[_FOLDER])
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "HOME": home,
        "AIRFLOW_HOME": str(Path(home, "airflow")),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Tests run side by side: on busy cores the threads of scikit-learn wait for each other.
        "OMP_NUM_THREADS": "1",
        **GIT,
    }


def _forget_python_options(before: dict[str, str]) -> None:
    """Undo what PYTHONPATH and PYTHONWARNINGS have done to this interpreter."""
    foreign = {
        str(Path(place).absolute()) for place in before.get("PYTHONPATH", "").split(os.pathsep) if place
    }
    root = str(Path(__file__).parents[1])
    sys.path[:] = [place for place in sys.path if place == root or place not in foreign]
    if sys.warnoptions:
        sys.warnoptions.clear()
        warnings.resetwarnings()
