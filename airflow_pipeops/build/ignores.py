"""What a ``.dockerignore`` keeps out of a build context: decided as Docker does, and then taken away, whoever builds."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_pipeops.exceptions import InvalidInput

#: How a file of Git LFS begins whose content is elsewhere.
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_LIMIT = 1024


@dataclass(frozen=True)
class Pattern:
    """One line.

    :param regex: of the paths that it means.
    :param kept: whether it takes back what an earlier line left out.
    """

    regex: re.Pattern[str]
    kept: bool


def patterns(text: str, name: str = ".dockerignore") -> list[Pattern]:
    """Read a ``.dockerignore``.

    :param name: of the file, for messages.
    :return: its patterns, in order.
    :raises InvalidInput: for one that cannot be read.
    """
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        stripped = line.strip()
        if not stripped or line.startswith("#"):
            continue
        kept = stripped.startswith("!")
        path = os.path.normpath(stripped[kept:].strip()).lstrip("/")
        if path in ("", "."):
            continue
        try:
            found.append(Pattern(re.compile(_regex(path)), kept))
        except (re.error, IndexError) as error:
            raise InvalidInput(
                f"line {number} of {name} cannot be read: {line!r}",
                field=name,
                value=line,
                remedy="Close its bracket, or write a backslash before it.",
            ) from error
    return found


def ignored(path: str, found: Sequence[Pattern]) -> bool:
    """Tell whether a path is left out: the last pattern decides that means it or a folder above it.

    :param path: below the context, with slashes.
    :return: whether it is.
    """
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    out = False
    for pattern in found:
        if out is pattern.kept and any(pattern.regex.fullmatch(one) for one in above):
            out = not pattern.kept
    return out


def prune(tree: Path, file: str) -> int:
    """Take out of a context what its ignore file names.

    :param tree: the context.
    :param file: name of the Containerfile, which may have an ignore file of its own.
    :return: how many files went.
    """
    for name in (f"{file}.dockerignore", ".containerignore", ".dockerignore"):
        if (tree / name).is_file() and not (tree / name).is_symlink():
            found = patterns((tree / name).read_text(encoding="utf-8", errors="replace"), name)
            return _prune(tree, found) if found else 0
    return 0


def _prune(tree: Path, found: Sequence[Pattern]) -> int:
    gone = 0
    for folder, folders, files in os.walk(tree, topdown=False):
        for name in (*files, *folders):
            path = Path(folder, name)
            if not ignored(path.relative_to(tree).as_posix(), found):
                continue
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                gone += 1
            elif not any(path.iterdir()):  # what was taken back within it keeps it
                shutil.rmtree(path)
    return gone


def pointers(tree: Path) -> list[str]:
    """Find files whose content is kept by Git LFS, and is not here.

    :return: their paths, in order.
    """
    found = []
    for folder, _, files in os.walk(tree):
        for path in (Path(folder, name) for name in files):
            if path.is_symlink() or path.stat().st_size > _POINTER_LIMIT:
                continue
            with open(path, "rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    found.append(path.relative_to(tree).as_posix())
    return sorted(found)


def _regex(path: str) -> str:
    """Translate a pattern of Go's ``filepath.Match``, with ``**`` for any number of folders."""
    out, at = "", 0
    while at < len(path):
        char = path[at]
        at += 1
        if char == "*":
            if path[at : at + 1] != "*":
                out += "[^/]*"
                continue
            at += 1
            if path[at : at + 1] == "/":
                at += 1
                out += "(?:.*/)?"
            else:
                out += ".*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            end = path.index("]", at + 1) if "]" in path[at + 1 :] else -1
            if end < 0:
                raise re.error("no end of a set")
            inner = path[at:end]
            negated, inner = inner.startswith("^"), inner.removeprefix("^")
            out += "(?!/)[" + "^" * negated + re.sub(r"([&~|[])", r"\\\1", inner) + "]"
            at = end + 1
        elif char == "\\":
            out += re.escape(path[at])
            at += 1
        else:
            out += re.escape(char)
    return f"(?s:{out})"
