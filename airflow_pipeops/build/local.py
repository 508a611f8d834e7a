"""Builds images and runs tests on the worker itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_pipeops.base.storage import StorageHook
from airflow_pipeops.build import builders, containerfile, logins, oci, testrun
from airflow_pipeops.build.backends import (
    Attempt,
    BuildRequest,
    BuiltImage,
    TestRequest,
    TestResult,
    Worker,
)
from airflow_pipeops.build.hook import RegistryHook, RegistrySettings
from airflow_pipeops.build.process import scratch
from airflow_pipeops.build.references import parse
from airflow_pipeops.build.registry import Registry
from airflow_pipeops.exceptions import InvalidInput


class LocalBuild:
    """Builds on the worker, with Buildah, Podman, Docker, or a builder of one's own."""

    lfs = False

    def platform(self) -> str:
        """Return the worker's own platform, or the place where Docker's engine is on another machine."""
        remote = urlsplit(os.environ.get("DOCKER_HOST", ""))
        if remote.scheme in ("tcp", "http", "https", "ssh"):
            return f"the Docker of {remote.hostname}"
        context = os.environ.get("DOCKER_CONTEXT") or "default"
        return oci.platform_here() if context == "default" else f"the Docker of context {context}"

    def start(self, request: BuildRequest, worker: Worker) -> BuiltImage:
        """Build, and put the image where it is wanted."""
        with scratch(f"image {worker.key}") as folder:
            whole, digest, name = self._build(request, worker, folder)
            if not request.registry_conn_id:
                new = oci.Layout(folder_of(request.storage_conn_id, request.image)).adopt(
                    whole, digest, request.tag
                )
                worker.say(f"{request.image}@{digest} {'added' if new else 'was already there'}")
                return BuiltImage(digest, name)
            with RegistryHook(request.registry_conn_id).get_conn() as registry:
                return _push(request, worker, registry, whole, digest, name)

    def resume(self, request: BuildRequest, worker: Worker, event: Mapping[str, Any]) -> BuiltImage:
        """It never waits elsewhere."""
        raise NotImplementedError

    def kill(self) -> None:
        """The task ends its child processes itself."""

    def _build(self, request: BuildRequest, worker: Worker, folder: Path) -> tuple[oci.Layout, str, str]:
        """Return a layout with the image, its digest, and what built it."""
        file = folder / "Containerfile"
        file.write_text(request.containerfile, encoding="utf-8")
        context = (worker.source() / request.context).resolve()
        pinned = containerfile.bases(request.containerfile, request.arguments, request.platforms)
        bases = sorted({base.name for base in pinned}) if needs_bases(request.builder) else []
        access = _access(request, bases, folder)
        whole, found, name = oci.Layout(folder / "whole"), [], request.builder

        def make(wanted: str) -> builders.Builder:
            return builders.make(wanted, worker.run, request.timeout, worker.say, access)

        for number, platform in enumerate(request.platforms or ("",)):
            builder = builders.choose(name, bases, make, worker.say, platform)
            name = request.builder if ":" in request.builder else builder.name  # one engine for all platforms
            worker.say(f"Building {request.image} from {request.commit[:12]} with {builder.name}")
            recipe = builders.Recipe(
                context, file, request.arguments, request.target, platform, request.epoch
            )
            place = folder / f"build-{number}"
            place.mkdir()
            layout = builder.build(recipe, place)
            digest = layout.annotate(layout.only(), request.annotations)
            if len(request.platforms) < 2:
                return layout, digest, builder.name
            whole.adopt(layout, digest)
            found.append(digest)
        return whole, whole.write(_index(whole, found, request.annotations)), builder.name


def _index(layout: oci.Layout, manifests: list[str], annotations: Mapping[str, str]) -> dict[str, Any]:
    entries = []
    for digest in sorted(manifests):
        config = layout.document(layout.document(digest)["config"]["digest"])
        platform = {name: config[name] for name in ("architecture", "os", "variant") if config.get(name)}
        entry = oci.descriptor(oci.MANIFEST, layout.blob(digest).read_bytes())
        entries.append({**entry, "platform": platform})
    return {
        "schemaVersion": 2,
        "mediaType": oci.INDEX,
        "manifests": entries,
        "annotations": dict(annotations),
    }


def _push(
    request: BuildRequest, worker: Worker, registry: Registry, whole: oci.Layout, digest: str, name: str
) -> BuiltImage:
    repository = parse(request.repository).repository
    registry.push(repository, whole, digest)
    there = registry.find(repository, request.tag)
    if there and there != digest:
        # The same was built elsewhere meanwhile, by an engine that packs otherwise: the first to be seen is the image.
        worker.say(f"{request.repository}:{request.tag} is there by now as {there}, which is taken")
        return BuiltImage(there, name, {"found": True})
    if not there:
        registry.tag(repository, digest, request.tag)
    worker.say(f"{request.repository}@{digest} pushed")
    return BuiltImage(digest, name)


def folder_of(storage_conn_id: str, image: str) -> Path:
    """Return the folder of an image's layout.

    :param storage_conn_id: connection of type ``pipeops_storage``.
    :param image: its name.
    :return: the folder.
    :raises InvalidInput: if the storage is no folder.
    """
    root = StorageHook(storage_conn_id).get_conn()
    if root.protocol not in ("file", "local", ""):
        raise InvalidInput(
            f"connection {storage_conn_id!r} names {root.protocol}:// storage; images are kept on file:// storage",
            field=f"{storage_conn_id}.host",
            value=str(root),
            remedy="Set its host to a folder that all workers share, such as file:///srv/artifacts, "
            "or name a registry in registry_conn_id.",
        )
    return Path(root.path) / image


def needs_bases(builder: str) -> bool:
    """Tell whether a builder takes the base images from their registries."""
    return ":" not in builder or builders.own(builder).needs_bases


def _access(request: BuildRequest, bases: list[str], folder: Path) -> builders.Access:
    """Write down for the engine how the registries of the base images are reached."""
    known = known_registries(request)
    hosts = {parse(base).host: parse(base).repository for base in bases}
    credentials = {host: one for host, path in hosts.items() if (one := known_credential(known, host, path))}
    used = [known[host] for host in hosts if host in known]
    certs = folder / "certs"
    certs.mkdir()
    for number, settings in enumerate(used):
        if settings.ca_file:
            os.symlink(os.path.abspath(settings.ca_file), certs / f"{number}.crt")
    return builders.Access(
        auth_file=logins.write(folder / "logins", credentials) if credentials else None,
        certs=certs if any(certs.iterdir()) else None,
        insecure=any(one.plain or not one.verify_tls for one in used),
    )


def known_registries(request: BuildRequest) -> dict[str, RegistrySettings]:
    """Return what is known of registries that base images may come from, by host."""
    named = (request.registry_conn_id, *request.base_conn_ids)
    found = [RegistryHook(conn_id).settings() for conn_id in named if conn_id]
    return {settings.host: settings for settings in reversed(found)}


def known_credential(known: Mapping[str, RegistrySettings], host: str, repository: str) -> Any:
    """Return the credential for a base image: its connection's, else that of the auth file that engines read."""
    if host in known:
        return known[host].credential
    file = logins.default_file()
    return logins.read(file, host, repository, must=False) if file else None


@contextmanager
def opened(known: Mapping[str, RegistrySettings], host: str, repository: str) -> Iterator[Registry]:
    """Open the registry of a base image."""
    settings = known.get(host) or RegistrySettings(host, credential=known_credential(known, host, repository))
    with settings.client() as registry:
        yield registry


class LocalTests:
    """Runs tests on the worker."""

    def start(self, request: TestRequest, worker: Worker) -> TestResult:
        """Run the command, and again while tests fail, as often as is wanted."""
        if request.image:
            raise InvalidInput(
                "the worker does not run tests in an image",
                field="image",
                value=request.image,
                remedy="Use backend='kubernetes', or leave image out.",
            )
        attempts: list[Attempt] = []
        while not attempts or (len(attempts) <= request.reruns and testrun.worth_a_rerun(attempts[-1])):
            with scratch(f"tests {worker.key}") as folder:
                attempts.append(testrun.attempt(request, worker, folder))
        return TestResult(tuple(attempts))

    def resume(self, request: TestRequest, worker: Worker, event: Mapping[str, Any]) -> TestResult:
        """It never waits elsewhere."""
        raise NotImplementedError

    def kill(self) -> None:
        """The task ends its child processes itself."""
