"""From a container's manifest and image to the command line of a local process."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import airflow_pipeops
from airflow_pipeops.demo.sandbox.runtime.environment import Lookup, expand, resolve
from airflow_pipeops.demo.sandbox.runtime.images import Image

#: What a container inherits from the sandbox's own environment: nothing that may be a secret.
_INHERITED = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Launch:
    """What to start, how, where.

    :param argv: the program and its arguments.
    :param env: its whole environment.
    :param cwd: the folder in which it runs.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: Path


def prepare(
    pod: dict[str, Any], image: Image | None, *, lookup: Lookup, port: int, home: Path, rootfs: Path | None
) -> Launch:
    """Return how to start the first container of a pod.

    A process has no root of its own: an absolute path that exists in the image is turned into the path of the
    unpacked file, and ``python`` is the Python that runs the sandbox.

    :param image: None for a host image, which runs from the sandbox's own installation.
    :param rootfs: where the image is unpacked for this pod.
    :return: the command, its environment and its folder.
    :raises ConfigMissing: a ConfigMap, Secret or key is missing.
    :raises OSError: there is no command, or its program is not found.
    """
    container = pod["spec"]["containers"][0]
    manifest_env = resolve(container, pod, lookup, {"HOST": "127.0.0.1", "PORT": str(port)})
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # The console scripts of the sandbox's environment come first, then the system's programs.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    env.update(HOME=str(home), TMPDIR=str(home), PYTHONUNBUFFERED="1", HOSTNAME=pod["metadata"]["name"])
    env.update((image.env if image else {}) | manifest_env, PATH=path)
    if rootfs is not None and "PYTHONPATH" in env:
        env["PYTHONPATH"] = os.pathsep.join(_inside(p, rootfs) for p in env["PYTHONPATH"].split(os.pathsep))
    if image is None:
        package = str(Path(airflow_pipeops.__file__).parent.parent)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH"), package)))
    command = container.get("command") or (image.entrypoint if image else [])
    default_args = image.cmd if image and not container.get("command") else []
    args = container["args"] if container.get("args") is not None else default_args
    argv = [expand(part, manifest_env) for part in [*command, *args]]
    if not argv:
        raise FileNotFoundError("no command specified")
    if rootfs is not None:
        argv = [_inside(part, rootfs) for part in argv]
    argv[0] = _program(argv[0], path)
    cwd = home
    wanted = container.get("workingDir") or (image.working_dir if image else "")
    if rootfs is not None:
        cwd = rootfs / wanted.lstrip("/")
        cwd.mkdir(parents=True, exist_ok=True)
    return Launch(argv, env, cwd)


def _inside(path: str, rootfs: Path) -> str:
    if path.startswith("/") and path != "/" and (rootfs / path.lstrip("/")).exists():
        return str(rootfs / path.lstrip("/"))
    return path


def _program(name: str, path: str) -> str:
    if re.fullmatch(r"(?:/\S+/)?python3?(?:\.\d+)?", name):
        return sys.executable
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f'exec: "{name}": executable file not found in $PATH')
    return found
