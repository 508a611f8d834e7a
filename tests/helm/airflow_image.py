"""A stand-in for the official Airflow image, which is on no registry of packages: what a recipe on it can rely on.

Python, ``uv`` and a shell are real. Of Airflow and of what it and this package need there is the metadata only: enough for a
resolver to know what is installed. Where things are, who owns them, and the names of the variables are those of the image's
own recipe (the file ``Dockerfile`` of apache/airflow, April 2026).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

#: The user of the image, whose group is 0.
USER = 50000
HOME = "home/airflow"
AIRFLOW = metadata.version("apache-airflow")
SITE = f"{HOME}/.local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "site-packages", "dist-packages", "config-*", "idlelib", "tkinter", "ensurepip", "*.a",
)  # fmt: skip
_RECIPE = f"""FROM scratch
COPY --chown=0:0 root /
COPY --chown={USER}:0 home /home
ENV AIRFLOW_VERSION={AIRFLOW} AIRFLOW_USER_HOME_DIR=/{HOME} VIRTUAL_ENV=/{HOME}/.local \\
    PATH=/{HOME}/.local/bin:/bin:/usr/bin UV_CONFIG_FILE=/etc/uv.toml
USER {USER}
"""


def requirements() -> dict[str, str]:
    """Return what is installed beside this package: name -> version."""
    found = {str(one.metadata["Name"]): one.version for one in metadata.distributions()}
    return {name: version for name, version in found.items() if name != "airflow-pipeops"}


def tree(folder: Path, constraints: dict[str, str], wheels: Path, missing: Iterable[str] = ()) -> None:
    """Lay out the image's files, and the recipe that makes it.

    :param folder: where to.
    :param constraints: what its ``constraints.txt`` says, name -> version.
    :param wheels: packages that can be installed there; no other is in reach.
    :param missing: names of what is not installed there.
    """
    root, home = folder / "root", folder / "home" / "airflow"
    python = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = python / "lib" / version
    shutil.copytree(library, root / library.relative_to("/"), ignore=_LEFT_OUT, symlinks=True)
    interpreter = python / "bin" / version
    uv = Path(sys.prefix) / "bin" / "uv"
    _copy(root, interpreter.resolve(), interpreter)
    _copy(root, uv, Path("/bin/uv"))
    _copy(root, Path(shutil.which("busybox") or ""), Path("/bin/busybox"))
    for name in ("sh", "ls", "rm"):
        (root / "bin" / name).symlink_to("busybox")
    for library_file in _libraries([interpreter, uv, *library.glob("lib-dynload/*.so")]):
        _copy(root, library_file, library_file)
    (root / "etc").mkdir()
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\nairflow:x:{USER}:0::/{HOME}:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    (root / "etc" / "uv.toml").write_text('offline = true\nno-index = true\nfind-links = ["/wheels"]\n')
    shutil.copytree(wheels, root / "wheels")
    (root / "wheels").chmod(0o755)
    home.mkdir(parents=True)
    (home / "constraints.txt").write_text(
        "".join(f"{name}=={constraints[name]}\n" for name in sorted(constraints))
    )
    environment = home / ".local"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(interpreter)
    (environment / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
    site = folder / SITE
    site.mkdir(parents=True)
    for one in metadata.distributions():
        if one.metadata["Name"] not in {"airflow-pipeops", *missing}:
            _installed(site, one)
    (folder / "Containerfile").write_text(_RECIPE)


def _installed(site: Path, one: metadata.Distribution) -> None:
    """Write what says that a package is installed."""
    name = re.sub(r"[-_.]+", "_", one.metadata["Name"]).lower()
    info = site / f"{name}-{one.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(one.read_text("METADATA") or one.read_text("PKG-INFO") or "")
    (info / "INSTALLER").write_text("uv")
    (info / "WHEEL").write_text(one.read_text("WHEEL") or "Wheel-Version: 1.0\nTag: py3-none-any\n")
    (info / "RECORD").write_text("")


def _copy(root: Path, source: Path, to: Path) -> None:
    target = root / to.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(source, target)


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that programs need, the loader too."""
    told = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", told.stdout, re.MULTILINE)}
