"""The pods that build images and run tests, composed of what is asked for. Pure: data in, manifest out."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_pipeops.build.cluster.scripts import BUILDAH, BUILDKIT, FETCH, REPORTS, literal
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.build.backends import BuildRequest, TestRequest

#: Containers: what the pod is for, what fetches its source, and what hands over its reports.
MAIN, SOURCE, HANDOVER = "main", "source", "reports"
GIT_IMAGE = "alpine/git:v2.47.2"
BUILDKIT_IMAGE = "moby/buildkit:v0.32.2-rootless"
BUILDAH_IMAGE = "quay.io/buildah/stable:v1.41"
#: What BuildKit says of an image, and how.
ATTESTATIONS = {"provenance": "mode=max", "sbom": ""}
#: Where things are mounted.
WORK, GIT_SECRET, LOGINS, REPORTS_FOLDER = (
    "/pipeops/work",
    "/pipeops/git",
    "/pipeops/logins",
    "/pipeops/reports",
)
LAST_WORD = "/dev/termination-log"
#: Bytes of a report that is handed over: a container's log is kept up to 10 MiB, and reports shrink to a tenth.
MOST = 32 * 1024 * 1024
#: Linux gives one variable no more than 128 KiB.
_MOST_TEXT = 120 * 1024

#: No more than a process needs that reads and writes files.
_CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
#: What a rootless builder needs instead: it makes a user namespace, and mounts in it.
_NESTING = {
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "seccompProfile": {"type": "Unconfined"},
    "appArmorProfile": {"type": "Unconfined"},
}


@dataclass(frozen=True)
class Settings:
    """What those who run a cluster say about such pods.

    :param service_account: that the pods run as.
    :param resources: requests and limits of the main container.
    :param node_selector: labels of the nodes that will do.
    :param tolerations: of taints.
    :param git_secret: name of a Secret with ``username`` and ``password``, or ``ssh-privatekey`` and ``known_hosts``.
    :param registry_secret: name of a Secret of type ``kubernetes.io/dockerconfigjson``; also for pulling.
    :param git_image: image with Git, and Git LFS where that is wanted.
    :param lfs: fetch what is kept by Git LFS, too.
    """

    service_account: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    git_secret: str = ""
    registry_secret: str = ""
    git_image: str = GIT_IMAGE
    lfs: bool = False


def buildkit(
    request: BuildRequest,
    url: str,
    settings: Settings,
    *,
    image: str,
    cache: bool,
    attestations: Mapping[str, str],
) -> dict[str, Any]:
    """Compose the pod of a build by BuildKit, rootless and without a daemon of its own.

    :param request: what is wanted.
    :param url: of the repository, without anything secret.
    :param image: of BuildKit.
    :param cache: whether what was built is kept in the registry for the next build.
    :param attestations: what BuildKit says of the image, and how.
    :return: the manifest.
    """
    name = _image(request)
    words = ["build", "--progress=plain", "--frontend=dockerfile.v0", "--metadata-file=metadata.json"]
    words += [f"--local=context={_context(request)}", f"--local=dockerfile={WORK}"]
    options = {
        "filename": "Containerfile",
        "target": request.target,
        "platform": ",".join(request.platforms),
        "vcs:source": url,
        "vcs:revision": request.commit,
        "build-arg:SOURCE_DATE_EPOCH": str(request.epoch),
        **{f"build-arg:{key}": value for key, value in request.arguments.items()},
    }
    words += [
        f"--opt={key}={value}" for key, value in options.items() if value or key.startswith("build-arg:")
    ]
    words += [f"--opt=attest:{kind}={how}" for kind, how in attestations.items()]
    words.append(
        "--output=" + _listed(_output(request, name, index=bool(attestations) or len(request.platforms) > 1))
    )
    if cache:
        kept = f"{request.repository}:buildcache"
        words += [
            f"--export-cache={_listed(['type=registry', 'mode=max', 'ignore-error=true', f'ref={kept}'])}"
        ]
        words += [f"--import-cache=type=registry,ref={kept}"]
    return _built(
        request,
        url,
        settings,
        image,
        script=BUILDKIT,
        words=words,
        env={"BUILDKITD_FLAGS": "--oci-worker-no-process-sandbox", "DOCKER_CONFIG": LOGINS},
        storage="/home/user/.local/share/buildkit",
    )


def buildah(
    request: BuildRequest, url: str, settings: Settings, *, image: str, cache: bool
) -> dict[str, Any]:
    """Compose the pod of a build by Buildah.

    :param request: what is wanted.
    :param url: of the repository, without anything secret.
    :param image: of Buildah.
    :param cache: whether what was built is kept in the registry for the next build.
    :return: the manifest.
    """
    name, several = _image(request), len(request.platforms) > 1
    words = ["--isolation=chroot", "--format=oci", f"--file={WORK}/Containerfile"]
    words += [
        f"--manifest={name}" if several else f"--tag={name}",
        f"--layers={'true' if cache else 'false'}",
    ]
    words += [f"--platform={','.join(request.platforms)}"] if request.platforms else []
    words += [f"--target={request.target}"] if request.target else []
    words.append(f"--timestamp={request.epoch}")
    words += [f"--build-arg={key}={value}" for key, value in request.arguments.items()]
    words += [f"--annotation={key}={value}" for key, value in request.annotations.items()]
    if cache:
        words += [f"--cache-from={request.repository}", f"--cache-to={request.repository}"]
    return _built(
        request,
        url,
        settings,
        image,
        script=BUILDAH,
        words=words,
        env={
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": "vfs",
            **({"REGISTRY_AUTH_FILE": f"{LOGINS}/config.json"} if settings.registry_secret else {}),
            "PIPEOPS_IMAGE": name,
            "PIPEOPS_MANIFEST": "yes" if several else "",
        },
        storage="/home/build/.local/share/containers",
    )


def tests(
    request: TestRequest, url: str, settings: Settings, *, words: Sequence[str], checkout: bool, helper: str
) -> dict[str, Any]:
    """Compose the pod of a test run: the command in the image, and a sidecar that hands over what it reports.

    :param request: what is wanted.
    :param url: of the repository, without anything secret.
    :param words: program and arguments.
    :param checkout: whether the commit's tree is fetched and the command begins in it; otherwise where the image says.
    :param helper: image with a shell, for the sidecar.
    :return: the manifest.
    """
    known = {
        "junit": f"{REPORTS_FOLDER}/junit.xml",
        "coverage": f"{REPORTS_FOLDER}/coverage.xml",
        "shard": str(request.shard),
        "shards": str(request.shards),
    }
    env = {
        "CI": "true",
        "PIPEOPS_JUNIT_XML": known["junit"],
        "PIPEOPS_COVERAGE_XML": known["coverage"],
        "PIPEOPS_SHARD": known["shard"],
        "PIPEOPS_SHARDS": known["shards"],
        **request.env,
    }
    mounts = [_mount("reports", REPORTS_FOLDER)]
    volumes: list[dict[str, Any]] = [{"name": "reports", "emptyDir": {}}]
    main: dict[str, Any] = {
        "name": MAIN,
        "image": request.image,
        "command": [literal(_filled(word, known)) for word in words],
    }
    inits = []
    if checkout:
        inits.append(_fetch(url, request.commit, settings, shared=True))
        mounts.append(_mount("work", WORK))
        volumes += _volumes(settings)
        main["workingDir"] = f"{WORK}/source"
    main |= {"env": _env(env), "volumeMounts": mounts, **_last_words(), **_resources(settings)}
    inits.append(
        {
            "name": HANDOVER,
            "image": helper,
            # It begins before the tests and ends after them, and the pod's end does not wait for it.
            "restartPolicy": "Always",
            "command": ["sh", "-c", literal(REPORTS)],
            "env": _env({"PIPEOPS_REPORTS": REPORTS_FOLDER, "PIPEOPS_MOST": str(MOST)}),
            "volumeMounts": [_mount("reports", REPORTS_FOLDER)],
            "securityContext": _CONFINED,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        }
    )
    return _pod(settings, main, inits, volumes)


def _built(
    request: BuildRequest,
    url: str,
    settings: Settings,
    image: str,
    *,
    script: str,
    words: Sequence[str],
    env: Mapping[str, str],
    storage: str,
) -> dict[str, Any]:
    if len(request.containerfile.encode()) > _MOST_TEXT:
        raise InvalidInput(
            f"{request.file} is longer than {_MOST_TEXT // 1024} KiB",
            field="file",
            value=request.file,
            remedy="Move what is long into files that it copies.",
        )
    given = {
        "PIPEOPS_WORK": WORK,
        "PIPEOPS_SOURCE": f"{WORK}/source",
        "PIPEOPS_CONTEXT": request.context,
        "PIPEOPS_FILE": request.file,
        "PIPEOPS_LAST_WORD": LAST_WORD,
        "PIPEOPS_CONTAINERFILE": request.containerfile,
        **env,
    }
    mounts = [_mount("work", WORK), _mount("storage", storage)]
    volumes = [*_volumes(settings), {"name": "storage", "emptyDir": {}}]
    if settings.registry_secret:
        mounts.append(_mount("logins", LOGINS, read_only=True))
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append(_secret("logins", settings.registry_secret, items=items))
    main: dict[str, Any] = {
        "name": MAIN,
        "image": image,
        "command": ["sh", "-c", literal(script), "sh", *map(literal, words)],
        "env": _env(given),
        "volumeMounts": mounts,
        "securityContext": _NESTING,
        **_last_words(),
        **_resources(settings),
    }
    return _pod(settings, main, [_fetch(url, request.commit, settings, shared=False)], volumes)


def composed(settings: Settings, main: Mapping[str, Any]) -> dict[str, Any]:
    """Compose a pod of one container that needs no source.

    :param main: the container.
    :return: the manifest.
    """
    confined = {"securityContext": _CONFINED, **_resources(settings)}
    return _pod(settings, {**confined, **main}, [], [])


def _pod(
    settings: Settings,
    main: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    volumes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "initContainers": list(inits),
        "containers": [dict(main)],
        "volumes": list(volumes),
    }
    if any("secret" in volume for volume in volumes):
        # So that the user who fetches and builds may read what is mounted, and nobody else.
        spec["securityContext"] = {"fsGroup": 1000}
    given = {
        "serviceAccountName": settings.service_account,
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [dict(one) for one in settings.tolerations],
        "imagePullSecrets": [{"name": settings.registry_secret}] if settings.registry_secret else [],
    }
    spec.update({key: value for key, value in given.items() if value})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": spec}


def _fetch(url: str, commit: str, settings: Settings, *, shared: bool) -> dict[str, Any]:
    env = {
        "PIPEOPS_GIT_URL": url,
        "PIPEOPS_COMMIT": commit,
        "PIPEOPS_GIT_SECRET": GIT_SECRET,
        "PIPEOPS_SOURCE": f"{WORK}/source",
        "PIPEOPS_LFS": "yes" if settings.lfs else "",
        "PIPEOPS_SHARED": "yes" if shared else "",
    }
    mounts = [_mount("work", WORK)]
    if settings.git_secret:
        mounts.append(_mount("git", GIT_SECRET, read_only=True))
    return {
        "name": SOURCE,
        "image": settings.git_image,
        "command": ["sh", "-c", literal(FETCH)],
        "env": _env(env),
        "volumeMounts": mounts,
        "securityContext": {**_CONFINED, "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
    }


def _volumes(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": "work", "emptyDir": {}}]
    if settings.git_secret:
        found.append(_secret("git", settings.git_secret))
    return found


def _secret(name: str, secret: str, *, items: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    source: dict[str, Any] = {"secretName": secret, "defaultMode": 0o440}
    return {"name": name, "secret": {**source, "items": list(items)} if items else source}


def _mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _env(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": literal(str(value))} for name, value in values.items()]


def _resources(settings: Settings) -> dict[str, Any]:
    return {"resources": dict(settings.resources)} if settings.resources else {}


def _last_words() -> dict[str, str]:
    return {"terminationMessagePath": LAST_WORD, "terminationMessagePolicy": "FallbackToLogsOnError"}


def _image(request: BuildRequest) -> str:
    if request.repository and request.tag:
        return f"{request.repository}:{request.tag}"
    raise InvalidInput(
        f"image {request.image!r} is to be built in a cluster, and no registry was named",
        field="registry_conn_id",
        value=request.registry_conn_id,
        remedy="Name the connection of a registry that the cluster reaches: a pod cannot fill a folder of the worker.",
    )


def _context(request: BuildRequest) -> str:
    return posixpath.normpath(posixpath.join(WORK, "source", request.context or "."))


def _output(request: BuildRequest, name: str, *, index: bool) -> list[str]:
    fields = ["type=image", f"name={name}", "push=true", "oci-mediatypes=true", "rewrite-timestamp=true"]
    # Where there is an index, whoever looks at the image sees that first; where there is none, BuildKit refuses them.
    where = ("annotation", "annotation-index") if index else ("annotation",)
    return fields + [f"{kind}.{key}={value}" for kind in where for key, value in request.annotations.items()]


def _listed(fields: Sequence[str]) -> str:
    """Write fields as BuildKit reads them: separated by commas, quoted where a value has one."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def _filled(word: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        word = word.replace("{" + name + "}", value)
    return word
