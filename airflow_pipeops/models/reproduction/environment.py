"""Where a model was trained: the packages and the machine, as far as they can change it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

#: How many threads libraries may use, by which sums come in another order.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "PYTHONHASHSEED",
)
#: The image that a pod runs, by digest; whoever starts the pod knows it.
IMAGE = "PIPEOPS_IMAGE"


def packages() -> dict[str, str]:
    """Return the version of each package that is installed, by its normalised name."""
    from importlib.metadata import distributions

    found = {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    return {re.sub(r"[-_.]+", "-", name).lower(): found[name] for name in sorted(found)}


def image() -> str | None:
    """Return the digest of the image that this process runs in, if whoever started it has told."""
    _, at, digest = os.environ.get(IMAGE, "").rpartition("@")
    return digest if at else None


def machine() -> dict[str, Any]:
    """Return what the last bits of a sum depend on: processor, threads, and the kernels of linear algebra."""
    import scipy.linalg  # noqa: F401  # loads what every training has loaded in the end: what is not loaded is not told
    import sklearn  # noqa: F401
    from threadpoolctl import threadpool_info

    libc = " ".join(filter(None, platform.libc_ver()))
    return {
        "system": " ".join(filter(None, (platform.system(), platform.machine(), libc))),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
        "libraries": sorted(
            {
                " ".join(
                    str(one[part])
                    for part in ("internal_api", "version", "architecture", "num_threads")
                    if one.get(part)
                )
                for one in threadpool_info()
            }
        ),
    }


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor()
