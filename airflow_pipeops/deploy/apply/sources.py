"""Where manifests come from: a commit and a path, rendered text, a file in storage, or what was kept of a release."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.downloads import fetched
from airflow_pipeops.deploy.apply.commits import Relation
from airflow_pipeops.deploy.apply.objects import parse
from airflow_pipeops.deploy.apply.parents import Release
from airflow_pipeops.exceptions import InvalidInput, NotFound, Unreachable
from airflow_pipeops.redaction import excerpt

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository

#: Under this name the manifests of a release are kept.
KEPT = "manifests.json"
_SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
#: Seconds that kustomize may take.
_PATIENCE = 120.0
_MOST = 64 * 1024 * 1024


def from_commit(client: GitRepository, commit: str, path: str) -> list[dict[str, Any]]:
    """Read the manifests of a commit.

    :param path: of a file, or of a folder: plain YAML, or a kustomization.
    :return: the objects.
    """
    with tempfile.TemporaryDirectory(prefix="pipeops-") as folder:
        root = Path(folder, "tree")
        client.checkout(commit, root)
        target = (root / path).resolve()
        if not target.is_relative_to(root.resolve()) or not target.exists():
            raise NotFound(
                f"{path} is not in commit {commit[:12]}", remedy="Name a file or folder of the repository."
            )
        return from_path(target, root.resolve())


def from_path(target: Path, root: Path) -> list[dict[str, Any]]:
    """Read the manifests of a file or a folder.

    :param root: relative to which messages name files.
    :return: the objects.
    """
    if target.is_file():
        return parse(_text(target.read_bytes(), target.name), str(target.relative_to(root)))
    if any((target / name).is_file() for name in _KUSTOMIZATIONS):
        return parse(kustomized(target), f"the kustomization {target.relative_to(root)}")
    found = sorted(one for one in target.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
    return [
        body for one in found for body in parse(_text(one.read_bytes(), one.name), str(one.relative_to(root)))
    ]


def kustomized(folder: Path) -> str:
    """Return what ``kubectl kustomize`` renders; it runs no plugin and no Helm.

    :return: the manifests.
    :raises InvalidInput: without a kubectl, and with what it says where it fails.
    """
    beside = Path(sys.executable).with_name("kubectl")
    program = shutil.which("kubectl") or (str(beside) if beside.exists() else "")
    if not program:
        raise InvalidInput(
            "kustomize needs kubectl, which is not on the PATH of the worker",
            field="path",
            remedy="Install it, or give manifests that are rendered.",
        )
    try:
        done = subprocess.run(
            [program, "kustomize", str(folder)], capture_output=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(f"kubectl kustomize took longer than {_PATIENCE:.0f} s", field="path") from error
    if done.returncode:
        raise InvalidInput(
            f"kubectl kustomize fails: {excerpt(done.stderr, 1000)}",
            field="path",
            remedy="Mend the kustomization.",
        )
    return _text(done.stdout, "kubectl kustomize")


def from_uri(uri: str, sha256: str = "") -> list[dict[str, Any]]:
    """Read the manifests of a file in a folder or object store, or of a web server.

    :param sha256: that the file must have, in hex; empty for any, but not of a web server.
    :return: the objects.
    """
    from airflow.sdk import ObjectStoragePath

    if uri.startswith(("http://", "https://")):
        return parse(_text(fetched(uri, sha256, field="uri", most=_MOST), uri), uri)

    try:
        path = ObjectStoragePath(uri)
        content = path.read_bytes() if path.is_file() else None
    except (ValueError, ImportError) as error:
        raise InvalidInput(
            f"{uri} cannot be opened: {error}",
            field="uri",
            value=uri,
            remedy="Name a file of a folder (file://) or of an object store whose provider is installed.",
        ) from error
    except OSError as error:
        raise Unreachable(f"{uri} could not be read: {error}") from error
    if content is None:
        raise NotFound(f"{uri} is no file", remedy="Name a YAML or JSON file.")
    if sha256 and (found := hashlib.sha256(content).hexdigest()) != sha256.removeprefix("sha256:").lower():
        raise InvalidInput(
            f"{uri} has the SHA-256 {found}, and {sha256} is wanted",
            field="sha256",
            value=sha256,
            remedy="Somebody has written the file anew: look at both before you take it.",
        )
    return parse(_text(content, uri), uri)


def from_manifests(given: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Read manifests that are given as text, or as objects."""
    return parse(given if isinstance(given, str) else json.dumps({"kind": "List", "items": list(given)}))


def from_release(release: Release) -> list[dict[str, Any]] | None:
    """Read the manifests of a release, as they were kept.

    :return: the objects; ``None`` where they are not kept any more, or never could be.
    """
    from airflow_pipeops.delivery.evidence import kept

    content = kept(release.sha256, KEPT) if release.sha256 else None
    return None if content is None else json.loads(content)


def relation_in(client: GitRepository, recorded: str, wanted: str) -> Relation:
    """Say how a commit stands to the one that was applied."""
    try:
        if client.is_ancestor(recorded, wanted):
            return "newer"
        return "older" if client.is_ancestor(wanted, recorded) else "diverged"
    except NotFound:
        return "unknown"


def _text(content: bytes, where: str) -> str:
    if len(content) > _MOST:
        raise InvalidInput(
            f"{where} has {len(content):,} bytes, more than {_MOST:,}", field="manifests", value=where
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where} is no UTF-8 text: {error}", field="manifests", value=where) from error
