"""Write a commit's tree to disk, exactly, and nothing outside of the directory."""

from __future__ import annotations

import contextlib
import os
import posixpath
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.cache import Cache, Damaged
from airflow_pipeops.git.process import Git, Watch
from airflow_pipeops.git.values.paths import repository_file

_LINK, _SUBMODULE, _EXECUTABLE = "120000", "160000", "100755"


@dataclass(frozen=True)
class _Entry:
    """A file of a tree, as ``git ls-tree`` lists it.

    :param mode: its file mode in octal digits, for example ``100644``.
    :param blob: id of its content.
    :param path: its path in the tree.
    """

    mode: str
    blob: str
    path: str


def checkout(git: Git, cache: Cache, sha: str, dest: Path) -> None:
    """Write the tree of a commit into a directory.

    No hook, filter, line-end conversion or LFS download takes part: the files are the blobs, byte by byte. Submodules
    become empty directories.

    :param dest: a directory that is empty or does not exist.
    :raises InvalidInput: if ``dest`` is in use, or a path or link of the tree leaves it.
    """
    if dest.is_symlink() or (dest.exists() and (not dest.is_dir() or any(dest.iterdir()))):
        raise InvalidInput(
            f"the directory {dest} is not empty",
            field="dest",
            value=str(dest),
            remedy="Give a new directory.",
        )
    entries = [_safe(entry) for entry in _entries(cache.run("ls-tree", "-r", "-z", "--full-tree", sha))]
    files = [entry for entry in entries if entry.mode != _SUBMODULE]
    contents = _contents(git, cache, files)
    dest.mkdir(parents=True, exist_ok=True)
    links: list[tuple[_Entry, bytes]] = []
    for entry, content in contents:
        if entry.mode == _LINK:
            links.append((entry, content))
        else:
            _write(dest / entry.path, content, 0o755 if entry.mode == _EXECUTABLE else 0o644)
    for entry, target in links:  # after all files, so that no file is written through a link
        _link(dest, entry, target)
    for entry in entries:
        if entry.mode == _SUBMODULE:
            (dest / entry.path).mkdir(parents=True, exist_ok=True)


def _entries(listing: bytes) -> Iterator[_Entry]:
    for line in filter(None, listing.split(b"\0")):
        head, _, path = line.partition(b"\t")
        mode, _, blob = head.decode().split()
        yield _Entry(mode, blob, os.fsdecode(path))


def _safe(entry: _Entry) -> _Entry:
    parts = entry.path.split("/")
    if entry.path.startswith("/") or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        repository_file(entry.path, field="path in the commit")
    return entry


def _contents(git: Git, cache: Cache, files: list[_Entry]) -> Iterator[tuple[_Entry, bytes]]:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as wanted:
        wanted.writelines(f"{entry.blob}\n" for entry in files)
        wanted.flush()
        process = git.stream("cat-file", "--batch", stdin=Path(wanted.name), directory=cache.directory)
        watch, done = Watch(process.pid, git.timeout), threading.Event()
        threading.Thread(target=_end_if_stuck, args=(process, watch, done), daemon=True).start()
        try:
            assert process.stdout is not None
            for entry in files:
                yield entry, _read_one(process.stdout)
                watch.moved()
        finally:
            done.set()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()


def _end_if_stuck(process: subprocess.Popen[bytes], watch: Watch, done: threading.Event) -> None:
    while not done.wait(watch.pause):
        if watch.is_stuck():
            process.send_signal(signal.SIGKILL)
            return


def _read_one(stream: IO[bytes]) -> bytes:
    header = stream.readline().split()
    size = int(header[2]) if len(header) == 3 and header[1] == b"blob" else -1
    content = stream.read(size + 1) if size >= 0 else b""
    if size < 0 or len(content) != size + 1:  # a missing blob is a line of its own, and no empty file
        raise Damaged("the local copy of the repository ended in the middle of a file")
    return content[:-1]


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, mode), "wb") as file:
        file.write(content)
    path.chmod(mode)


def _link(dest: Path, entry: _Entry, target: bytes) -> None:
    text = os.fsdecode(target)
    landing = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), text))
    if text.startswith("/") or not text or landing == ".." or landing.startswith("../"):
        raise InvalidInput(
            f"the commit holds a link {entry.path!r} that leads out of the repository",
            field="path in the commit",
            value=entry.path,
            remedy="Remove the link, or make it relative and point inside.",
        )
    (dest / entry.path).parent.mkdir(parents=True, exist_ok=True)
    (dest / entry.path).symlink_to(text)
