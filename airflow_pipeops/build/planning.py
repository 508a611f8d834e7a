"""Before a build: what it is made of, and whether it is there. After it: whether it is really there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.build import containerfile, ignores, local, oci, referrers, wanted
from airflow_pipeops.build.hook import RegistryHook
from airflow_pipeops.build.references import parse
from airflow_pipeops.exceptions import Conflict, InvalidInput, PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.build.backends import BuildRequest
    from airflow_pipeops.build.registry import Registry
    from airflow_pipeops.git.repository import GitRepository

_ANNOTATION = "org.opencontainers.image"


@dataclass(frozen=True)
class Plan:
    """A build, before it begins.

    :param request: what is wanted, complete.
    :param pointers: files of the context that are built without their content, which Git LFS keeps elsewhere.
    """

    request: BuildRequest
    pointers: tuple[str, ...]


def plan(
    client: GitRepository,
    source: Path,
    request: BuildRequest,
    *,
    platform: str,
    lfs: bool = False,
    file: str | None = None,
) -> Plan:
    """Find the Containerfile, pin its base images, and work out the key.

    :param client: of the repository.
    :param source: the tree of the commit; what the context's ignore file names is taken out of it.
    :param request: with all that the user said.
    :param platform: on which is built, where the request names none.
    :param lfs: whether the content of files that Git LFS keeps is fetched before the build.
    :param file: Containerfile, as a path below the context; ``None`` for one of the usual names.
    :return: the plan.
    """
    context, found = _locate(source, request, file)
    text = _text(found)
    named = containerfile.bases(text, request.arguments, request.platforms)
    pinned = text
    if local.needs_bases(request.builder):
        pinned = containerfile.pinned(text, named, _digests(request, {base.name for base in named}))
    ignores.prune(context, found.relative_to(context).as_posix())
    pointers = tuple(ignores.pointers(context))
    commit = client.describe(request.commit)
    created = datetime.fromisoformat(commit.time).astimezone(timezone.utc)
    key = wanted.key(
        tree=client.tree(request.commit, request.context),
        containerfile=pinned,
        arguments=request.arguments,
        target=request.target,
        platforms=request.platforms or (platform,),
        file=found.relative_to(context).as_posix(),
        lfs=lfs and bool(pointers),
        builder=request.builder if ":" in request.builder else "",
    )
    complete = replace(
        request,
        file=found.relative_to(source.resolve()).as_posix(),
        containerfile=pinned,
        tag=wanted.tag(key),
        annotations={
            f"{_ANNOTATION}.revision": request.commit,
            f"{_ANNOTATION}.source": client.display_url,
            f"{_ANNOTATION}.created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    )
    return Plan(complete, () if lfs else pointers)


def find(request: BuildRequest) -> str:
    """Look whether the image is there; return its digest, empty if it is not."""
    if not request.registry_conn_id:
        return oci.Layout(local.folder_of(request.storage_conn_id, request.image)).find(request.tag)
    with RegistryHook(request.registry_conn_id).get_conn() as registry:
        repository = parse(request.repository).repository
        if found := registry.find(repository, request.tag):
            return found
        try:
            if found := referrers.find(registry, repository, wanted.key_of(request.tag)):
                registry.tag(repository, found, request.tag)
        except PipeOpsError:
            return ""  # a registry that forbids what it does not know: then the image is built
        return found


def confirm(
    request: BuildRequest, digest: str, tags: Iterable[str], *, built: bool, say: Callable[[str], None]
) -> None:
    """Read back that the registry has the image under its key, and let further tags mean it.

    :param built: it was built now, so that nothing but its tag leads to it yet.
    :param say: is told what a person should know.
    :raises Conflict: if the key means another image.
    :raises InvalidInput: for tags without a registry.
    """
    if not request.registry_conn_id:
        if tags:
            raise InvalidInput(
                "tags are for a registry", field="tags", remedy="Name a registry in registry_conn_id."
            )
        return
    repository = parse(request.repository).repository
    with RegistryHook(request.registry_conn_id).get_conn() as registry:
        there = registry.manifest(repository, request.tag).digest
        if there != digest:
            raise Conflict(
                f"{request.repository}:{request.tag} is {there}, and {digest} was pushed",
                remedy="Somebody else pushes the same tag; the next attempt takes what is there.",
            )
        for tag in tags:
            registry.tag(repository, digest, tag)
        if not built:
            return
        try:
            referrers.attach(registry, repository, wanted.key_of(request.tag), digest)
        except PipeOpsError as error:  # the image is there, and its tag leads to it
            say(f"The image is found again by its tag only: {error.message}")


def described(request: BuildRequest) -> Mapping[str, Any]:
    """Return what a record says of a build beside its result."""
    found = {
        "bases": [
            base.name
            for base in containerfile.bases(request.containerfile, request.arguments, request.platforms)
        ]
    }
    if request.platforms:
        found["platforms"] = list(request.platforms)
    if not request.registry_conn_id:
        return {**found, "layout": local.folder_of(request.storage_conn_id, request.image).as_uri()}
    return found


def _digests(request: BuildRequest, names: Iterable[str]) -> dict[str, str]:
    """Ask the registries what the tags of base images mean now."""
    found: dict[str, str] = {}
    known = local.known_registries(request)
    with ExitStack() as stack:
        clients: dict[tuple[str, str], Registry] = {}
        for name in sorted(names):
            base = parse(name, "FROM")
            if base.digest:
                found[name] = base.at(base.digest)
                continue
            where = (base.host, "" if base.host in known else base.repository)
            if where not in clients:
                clients[where] = stack.enter_context(local.opened(known, base.host, base.repository))
            found[name] = base.at(clients[where].resolve(base.repository, base.asked))
    return found


def _locate(source: Path, request: BuildRequest, file: str | None) -> tuple[Path, Path]:
    root = source.resolve()
    context = (source / request.context).resolve()
    if not context.is_relative_to(root) or not context.is_dir():
        raise InvalidInput(
            f"context {request.context!r} is not a folder of the repository",
            field="context",
            value=request.context,
            remedy="Name a folder relative to the repository's root.",
        )
    names: Sequence[str] = (file,) if file else ("Containerfile", "Dockerfile")
    for name in names:
        path = (context / name).resolve()
        if path.is_file() and path.is_relative_to(context):
            return context, path
    raise InvalidInput(
        f"there is no {' or '.join(names)} in {request.context!r} of commit {request.commit[:12]}",
        field="file" if file else "context",
        value=file or request.context,
        remedy="Add one, or name the folder that holds it in context=.",
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file.name} is not UTF-8 text", field=file.name, remedy="Save it as UTF-8."
        ) from error
