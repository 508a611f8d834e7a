"""Read the small part of a Containerfile (Dockerfile) that needs no container engine. Pure.

``FROM``, ``WORKDIR``, ``COPY . <folder>``, ``ENV``, ``CMD``, ``ENTRYPOINT`` and ``EXPOSE``. Anything else is refused by
name: leaving it out would make another image than the author wrote.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput

_SUPPORTED = ("FROM", "WORKDIR", "COPY", "ENV", "CMD", "ENTRYPOINT", "EXPOSE")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENGINE = "Install Buildah, Podman or Docker to build it, or write it without."


@dataclass
class Containerfile:
    """What an image needs beside its files.

    :param base: image that it builds on, as written.
    :param workdir: folder in which the container starts.
    :param folder: absolute folder into which the source tree is copied; ``None`` if it is not.
    :param env: environment, in the order written.
    :param cmd: default arguments, or the default command.
    :param entrypoint: the command that the arguments are given to; empty for none.
    :param ports: ports that it names, for example ``8080/tcp``.
    """

    base: str = ""
    workdir: str = "/"
    folder: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    cmd: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)


def bases(text: str) -> list[str]:
    """Return the base images that a Containerfile of any complexity names, without its own stages and ``scratch``."""
    found: dict[str, None] = {}
    stages = {"scratch"}
    for _, instruction, rest in _instructions(text):
        if instruction == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            if words and words[0] not in stages and "$" not in words[0]:
                found[words[0]] = None
            if len(words) == 3:
                stages.add(words[2])
    return list(found)


def parse(text: str) -> Containerfile:
    """Read a Containerfile of the supported subset.

    :return: what it says.
    :raises InvalidInput: naming the first line that is not in it, or what is missing.
    """
    result = Containerfile()
    for number, instruction, rest in _instructions(text):
        if instruction not in _SUPPORTED:
            raise _refused(
                number,
                instruction,
                f"Only {', '.join(_SUPPORTED)} are understood without an engine. {_ENGINE}",
            )
        if not rest:
            raise _refused(number, instruction, "It needs an argument.")
        if not result.base and instruction != "FROM":
            raise _refused(number, instruction, "The first instruction has to be FROM.")
        _HANDLERS[instruction](result, number, rest)
    for missing, name, remedy in (
        (not result.base, "FROM", "Begin with FROM <image>."),
        (result.folder is None, "COPY", "Write COPY . . so that the image holds the source tree."),
        (
            not (result.cmd or result.entrypoint),
            "CMD",
            'Say what runs, for example CMD ["python", "app.py"].',
        ),
    ):
        if missing:
            raise InvalidInput(f"the Containerfile has no {name}", field="Containerfile", remedy=remedy)
    return result


def _instructions(text: str) -> list[tuple[int, str, str]]:
    """Return (line number, instruction in capitals, rest), continuations joined and comments left out."""
    found: list[tuple[int, str, str]] = []
    pending, begun = "", 0
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        stripped = line.strip()
        if stripped.lower().replace(" ", "").startswith("#escape="):
            raise _refused(number, "# escape", "Use the backslash, which is the default.")
        if not stripped or stripped.startswith("#"):
            continue
        begun = begun or number
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        instruction, _, rest = (pending + stripped).partition(" ")
        found.append((begun, instruction.upper(), rest.strip()))
        pending, begun = "", 0
    if pending:
        raise _refused(begun, pending.split()[0], "It ends with a continuation.")
    return found


def _from(result: Containerfile, number: int, rest: str) -> None:
    words = rest.split()
    if result.base or words[0].startswith("--") or "$" in rest or len(words) not in (1, 3):
        raise _refused(number, f"FROM {rest}", f"One plain FROM <image> is understood. {_ENGINE}")
    result.base = words[0]


def _workdir(result: Containerfile, number: int, rest: str) -> None:
    result.workdir = _folder(result.workdir, number, "WORKDIR", rest.strip("\"'"))


def _copy(result: Containerfile, number: int, rest: str) -> None:
    words = _json_list(rest) or rest.split()
    if len(words) != 2 or words[0] not in (".", "./") or result.folder is not None:
        raise _refused(number, f"COPY {rest}", f"One COPY . <folder> is understood. {_ENGINE}")
    result.folder = _folder(result.workdir, number, "COPY", words[1])


def _env(result: Containerfile, number: int, rest: str) -> None:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise _refused(number, "ENV", f"Its quotes do not match ({error}).") from error
    if "=" not in rest.split()[0]:  # the old form: ENV KEY the whole rest
        key, _, value = rest.partition(" ")
        pairs = [(key, value.strip())]
    else:
        pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words]
        if any("=" not in word for word in words):
            raise _refused(
                number, "ENV", "Write ENV KEY=value, with quotes around a value that holds spaces."
            )
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise _refused(number, f"ENV {key}", "A name has letters, digits and underscores.")
        if "$" in value:
            raise _refused(
                number, f"ENV {key}", f"References to other variables are not understood. {_ENGINE}"
            )
        result.env[key] = value


def _cmd(result: Containerfile, number: int, rest: str) -> None:
    result.cmd = _command(number, "CMD", rest)


def _entrypoint(result: Containerfile, number: int, rest: str) -> None:
    result.entrypoint = _command(number, "ENTRYPOINT", rest)
    result.cmd = []  # as engines do; a CMD after it is its arguments


def _expose(result: Containerfile, number: int, rest: str) -> None:
    for word in rest.split():
        port, _, protocol = word.partition("/")
        if not port.isdigit() or not 0 < int(port) < 65536 or protocol not in ("", "tcp", "udp"):
            raise _refused(number, f"EXPOSE {word}", "Write a port, for example EXPOSE 8080.")
        result.ports.append(f"{port}/{protocol or 'tcp'}")


_HANDLERS: dict[str, Callable[[Containerfile, int, str], None]] = {
    "FROM": _from,
    "WORKDIR": _workdir,
    "COPY": _copy,
    "ENV": _env,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "EXPOSE": _expose,
}


def _command(number: int, instruction: str, rest: str) -> list[str]:
    words = _json_list(rest)
    if words is None:
        if rest.startswith("["):
            raise _refused(
                number, instruction, 'The list is not JSON: use double quotes, ["python", "app.py"].'
            )
        return ["/bin/sh", "-c", rest]
    if not words:
        raise _refused(number, instruction, "The list is empty.")
    return words


def _json_list(text: str) -> list[str] | None:
    try:
        value = parsed(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _folder(workdir: str, number: int, instruction: str, value: str) -> str:
    if "$" in value or ".." in value.split("/"):
        raise _refused(number, f"{instruction} {value}", "Write a plain folder, without variables or '..'.")
    # normpath keeps two leading slashes, as POSIX allows.
    return "/" + posixpath.normpath(posixpath.join(workdir, value)).lstrip("/")


def _refused(number: int, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        f"line {number} of the Containerfile cannot be packaged: {what}",
        field="Containerfile",
        value=what,
        remedy=remedy,
    )
