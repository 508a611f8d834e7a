"""Build the image of a commit, once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import mapping, matching
from airflow_pipeops.build.operators.source import SourceOperator
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.backends import BuildBackend, BuildRequest, BuiltImage

_FOLDER = re.compile(r"(?![/-])(?!(?:.*/)?\.\.(?:/|$))[^\x00-\x1f]+")
_CONTEXT = "Name a folder relative to the repository's root."
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/v[0-9]+)?")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*")


class BuildImageOperator(SourceOperator):
    """Build a commit's image, once, and put it into a registry or a folder, named by its digest.

    What decides the image (the tree, the Containerfile, the build arguments, the digests of the base images, the
    platforms) makes a key. An image that is there under that key is taken, and not built again.

    :param image: its name below the registry's, or below the storage's; without tag and digest; templated.
    :param context: folder of the repository that is built; templated.
    :param file: Containerfile, as a path below the context; by default ``Containerfile`` or ``Dockerfile``. Templated.
    :param builder: ``buildah``, ``podman``, ``docker``, or ``auto``: the first of these that is installed, works, and can
        get the base image; or the import path of a builder of your own. By default what ``[pipeops] builder`` says.
    :param registry_conn_id: connection of type ``container_registry`` or ``docker`` that the image is pushed to. By default
        what ``[pipeops] registry_conn_id`` says; without one, the image is kept in ``storage_conn_id``. Templated.
    :param base_conn_ids: connections of further registries that base images come from.
    :param storage_conn_id: connection of type ``pipeops_storage`` with a ``file://`` URI, for OCI layouts; templated.
    :param tags: tags that are to mean the image in the registry, too; templated.
    :param build_args: build arguments; no secrets, since an image tells them to everybody. Templated.
    :param target: stage of the Containerfile to build; by default the last.
    :param platforms: for example ``["linux/amd64", "linux/arm64"]``; by default the builder's own.
    :param allow_lfs_pointers: whether files may be built in whose content Git LFS keeps elsewhere.
    :param timeout: for each step of the engine.
    :return: ``{image, digest, reference, builder, commit, key, found, record_id}``
    :raises BuildFailed: if the engine fails, or the one asked for cannot be used.
    :raises InvalidInput: if there is no Containerfile, or it cannot be read.
    """

    template_fields: Sequence[str] = (
        "image",
        "context_folder",
        "file",
        "registry_conn_id",
        "storage_conn_id",
        "tags",
        "build_args",
        *SourceOperator.template_fields,
    )
    emits = ("image",)
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        image: str,
        context: str = ".",
        file: str | None = None,
        builder: str | None = None,
        registry_conn_id: str | None = None,
        base_conn_ids: Sequence[str] = (),
        storage_conn_id: str = "pipeops_artifacts",
        tags: Sequence[str] = (),
        build_args: Mapping[str, str] | None = None,
        target: str = "",
        platforms: Sequence[str] = (),
        allow_lfs_pointers: bool = False,
        timeout: timedelta = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.image = image
        self.context_folder = context
        self.file = file
        self.builder = builder
        self.registry_conn_id = registry_conn_id
        self.base_conn_ids = base_conn_ids
        self.storage_conn_id = storage_conn_id
        self.tags = tags
        self.build_args = build_args
        self.target = target
        self.platforms = platforms
        self.allow_lfs_pointers = allow_lfs_pointers

    def execute(self, context: Context) -> dict[str, Any]:
        """Look whether the image is there; else check out, build, and put it where it is wanted. Record it."""
        from airflow_pipeops.build import planning
        from airflow_pipeops.build.backends import BuiltImage

        with no_retry(), self._scratch(context) as folder:
            backend = self._made()
            request = self._request()
            source = folder / "source"
            self._checkout(source)
            plan = planning.plan(
                self._source_client(),
                source,
                request,
                platform=backend.platform(),
                lfs=backend.lfs,
                file=self.file,
            )
            self._refuse_pointers(plan.pointers)
            if found := planning.find(plan.request):
                self.log.info("%s is there already, as %s", plan.request.tag, found)
                return self._finish(context, plan.request, BuiltImage(found, "", {"found": True}))
            worker = self._worker(context, lambda: source)
            return self._go_on(context, plan.request, backend.start(plan.request, worker))

    def _asked(self, request: Mapping[str, Any]) -> BuildRequest:
        from airflow_pipeops.build.backends import BuildRequest

        return BuildRequest.from_json(request)

    def _made(self) -> BuildBackend:
        from airflow_pipeops.build import backends

        made: BuildBackend = backends.make(backends.BUILDS, self.backend, self.backend_options or {})
        self._backend = made
        return made

    def _finish(self, context: Context, request: BuildRequest, built: BuiltImage) -> dict[str, Any]:
        """Read back what the registry has, set the tags, record."""
        from airflow_pipeops.build import planning, wanted

        found = bool(built.facts.get("found"))
        planning.confirm(request, built.digest, self.tags, built=not found, say=self._tell)
        facts: dict[str, Any] = {
            "image": self.image,
            "digest": built.digest,
            "reference": f"{request.repository or self.image}@{built.digest}",
            "builder": built.builder,
            "commit": self.commit,
            "key": wanted.key_of(request.tag),
            "found": found,
        }
        body = {**built.facts, **facts, **planning.described(request)}
        record_id = self.emit(context, "image", body, commit=self.commit)
        return {**facts, "record_id": record_id}

    def _request(self) -> BuildRequest:
        """Read the arguments, and check everything that can be checked without touching anything."""
        from airflow_pipeops.base import configuration as settings
        from airflow_pipeops.build import builders, references
        from airflow_pipeops.build.backends import BuildRequest
        from airflow_pipeops.build.hook import RegistryHook
        from airflow_pipeops.build.local import folder_of

        if not isinstance(self.image, str) or not _IMAGE.fullmatch(self.image) or len(self.image) > 200:
            raise InvalidInput(
                f"image {self.image!r} is not a valid name",
                field="image",
                value=self.image,
                remedy="Use lower-case letters, digits, dashes, dots and slashes; no tag and no digest.",
            )
        local = self.backend == "local"
        builder = self.builder or (settings.builder() if local else "auto")
        if local:  # another backend has builders of its own
            builders.check(builder)
        for tag in self.tags:
            references.tag(tag, "tags")
        matching("context", self.context_folder, _FOLDER, "a folder of the repository", _CONTEXT)
        for platform in self.platforms:
            matching(
                "platforms", platform, _PLATFORM, "a platform", "Write it as linux/amd64 or linux/arm/v7."
            )
        arguments = mapping("build_args", self.build_args or {}, 'Write {"NAME": "value"}.')
        for name in arguments:
            matching(
                "build_args", name, _ARGUMENT, "the name of a build argument", "Use letters, digits and _."
            )
        registry = self.registry_conn_id or settings.registry()
        repository = ""
        if registry:
            repository = str(RegistryHook(registry).settings().reference(self.image))
        else:
            folder_of(self.storage_conn_id, self.image)
        return BuildRequest(
            git_conn_id=self.git_conn_id,
            commit=self.commit,
            context=self.context_folder,
            image=self.image,
            repository=repository,
            registry_conn_id=registry,
            base_conn_ids=tuple(self.base_conn_ids),
            storage_conn_id="" if registry else self.storage_conn_id,
            arguments={name: str(value) for name, value in arguments.items()},
            target=self.target,
            platforms=tuple(self.platforms),
            builder=builder,
            timeout=self.timeout,
        )

    def _refuse_pointers(self, pointers: Sequence[str]) -> None:
        if pointers and not self.allow_lfs_pointers:
            raise InvalidInput(
                f"{len(pointers)} files of the build context are pointers of Git LFS, first {pointers[0]!r}: "
                "their content is not in the repository",
                field="context",
                value=pointers[0],
                remedy="Name them in .dockerignore and fetch them where they are used, or set allow_lfs_pointers=True.",
            )
