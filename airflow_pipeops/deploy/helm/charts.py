"""A chart and its values: fetched to this machine first, so that what is compared, installed and recorded is one thing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from airflow_pipeops.base.arguments import mapping, matching
from airflow_pipeops.base.connections import read
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.downloads import fetched
from airflow_pipeops.base.http import trusting
from airflow_pipeops.deploy.helm.errors import failure
from airflow_pipeops.deploy.helm.manifests import digest_of
from airflow_pipeops.deploy.helm.program import Helm
from airflow_pipeops.exceptions import InvalidInput, ReleaseFailed
from airflow_pipeops.git.hook import GitHook
from airflow_pipeops.git.values.paths import repository_file
from airflow_pipeops.redaction import remember

#: Bytes that a packed chart may have.
_MOST = 64 * 1024 * 1024
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
_SECRET = re.compile(r"[^.\s]+\.(?:login|password|host|extra\.\S+)")
_NAMES = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")


@dataclass(frozen=True)
class Source:
    """Which chart, and what it is given.

    :param chart: ``oci://...``, ``https://...@sha256:...``, a name in ``repository``, or ``./path`` in a commit.
    :param version: of the chart; empty for that which a digest or a commit names.
    :param repository: URL of a chart repository.
    :param chart_conn_id: login for the repository or registry.
    :param git_conn_id: repository of charts and of files of values.
    :param commit: of that repository.
    :param values: values that are no secret.
    :param values_files: files of values in the commit.
    :param secret_values: path of a value -> ``connection.field``.
    """

    chart: str
    version: str = ""
    repository: str = ""
    chart_conn_id: str = ""
    git_conn_id: str = ""
    commit: str = ""
    values: Mapping[str, Any] | None = None
    values_files: Sequence[str] = ()
    secret_values: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Fetched:
    """What Helm is given.

    :param path: of the chart, on this machine.
    :param files: of values, the later ones decide.
    :param facts: of chart and values, for the record: names, versions and digests.
    """

    path: Path
    files: tuple[Path, ...]
    facts: dict[str, Any]


def fetch(source: Source, helm: Helm, timeout: float) -> Fetched:
    """Fetch a chart and its values.

    :param timeout: seconds for a call of Helm.
    :return: both.
    :raises InvalidInput: for a source that cannot be meant.
    """
    local, oci = source.chart.startswith("./"), source.chart.startswith("oci://")
    if (local or source.values_files) and not source.git_conn_id:
        field = "chart" if local else "values_files"
        raise InvalidInput(
            f"{field} names files of a commit, and no repository is given",
            field="git_conn_id",
            remedy="Name the connection of the Git repository.",
        )
    web = source.chart.startswith(("http://", "https://"))
    if not (local or oci or web or source.repository):
        raise InvalidInput(
            f"chart {source.chart!r} is neither of a registry nor of a commit, and no repository is given",
            field="chart",
            value=source.chart,
            remedy="Give 'oci://host/path@sha256:...', 'https://host/chart.tgz@sha256:...', './path/in/the/commit', "
            "or a name and its repository.",
        )
    sha, tree = "", helm.place / "commit"
    if local or source.values_files:
        sha = GitHook(source.git_conn_id).get_conn().checkout(source.commit, tree)
    if local:
        path, facts = _local(source, helm, tree, sha, timeout)
    else:
        path, facts = _downloaded(source, helm, timeout) if web else _pulled(source, helm, timeout)
    about = map_(yaml.safe_load(_ran(helm, timeout, "show", "chart", str(path))))
    chart = {"name": text(about.get("name")), "version": str(about.get("version") or ""), **facts}
    files, values = _values(source, helm, tree)
    return Fetched(path, files, {"chart": chart, "values": values, "commit": sha})


def _local(source: Source, helm: Helm, tree: Path, sha: str, timeout: float) -> tuple[Path, dict[str, str]]:
    folder = repository_file(source.chart.removeprefix("./"), field="chart")
    path = tree / folder
    if not (path / "Chart.yaml").is_file():
        raise InvalidInput(
            f"commit {sha[:12]} has no chart at {folder!r}: there is no Chart.yaml",
            field="chart",
            value=source.chart,
            remedy="Give the folder of the chart, from the top of the repository.",
        )
    git = GitHook(source.git_conn_id).get_conn()
    needed = map_(yaml.safe_load((path / "Chart.yaml").read_text(encoding="utf-8"))).get("dependencies")
    if needed and not (path / "charts").is_dir():
        _login(source, helm)
        _ran(helm, timeout, "dependency", "build", str(path))
    return path, {"source": git.display_url, "commit": sha, "digest": f"git:{git.tree(sha, folder)}"}


def _downloaded(source: Source, helm: Helm, timeout: float) -> tuple[Path, dict[str, str]]:
    """Fetch a packed chart from a web server, by its digest."""
    url, _, digest = source.chart.rpartition("@") if _DIGEST.search(source.chart) else (source.chart, "", "")
    login = read(source.chart_conn_id, "container_registry") if source.chart_conn_id else None
    if login and login.password:
        remember(login.password)
    content = fetched(
        url,
        digest,
        field="chart",
        most=_MOST,
        seconds=timeout,
        verify=trusting(login.extra_dejson) if login else True,
        auth=(login.login, login.password or "") if login and login.login else None,
    )
    path = helm.place / "downloaded.tgz"
    path.write_bytes(content)
    return path, {"source": url, "digest": digest}


def _pulled(source: Source, helm: Helm, timeout: float) -> tuple[Path, dict[str, str]]:
    place = helm.place / "pulled"
    place.mkdir(exist_ok=True)
    pinned = _DIGEST.search(source.chart)
    name, more = source.chart, [*_login(source, helm)]
    if pinned and (helm.major < 4 or source.version):
        # Helm 3 takes no digest: it is asked for the version, and what came is compared.
        name = _DIGEST.sub("", source.chart)
        if not source.version:
            raise InvalidInput(
                "Helm 3 pulls a chart by its version, and checks it by the digest",
                field="version",
                remedy="Give the version, too, or use Helm 4.",
            )
    if source.version:
        more += ["--version", source.version]
    if source.repository and (helm.place / "repositories.yaml").exists():
        # A login for --repo would have to stand on the command line.
        _ran(helm, timeout, "repo", "update", "charts")
        name = f"charts/{name}"
    elif source.repository:
        more += ["--repo", source.repository]
    said = _ran(helm, timeout, "pull", name, "--destination", str(place), *more, both=True)
    packed = sorted(place.glob("*.tgz"))
    if len(packed) != 1:
        raise InvalidInput(f"{source.chart} is no chart", field="chart", value=source.chart)
    found = re.search(r"Digest: (sha256:[0-9a-f]{64})", said)
    digest = found[1] if found else f"sha256:{hashlib.sha256(packed[0].read_bytes()).hexdigest()}"
    if pinned and digest != pinned[1]:
        raise ReleaseFailed(
            f"chart {name} {source.version} is {digest}, and {pinned[1]} is wanted",
            remedy="Somebody has pushed another chart under this version: look at both before you take it.",
        )
    return packed[0], {"source": source.repository or name, "digest": digest}


def _login(source: Source, helm: Helm) -> list[str]:
    """Write the login down where Helm looks for it, never on its command line; return further arguments."""
    if not source.chart_conn_id:
        return []
    connection = read(source.chart_conn_id, "container_registry")
    user, secret = connection.login or "", connection.password or ""
    remember(secret)
    arguments = ["--plain-http"] if str(connection.host or "").startswith("http://") else []
    authority = str(connection.extra_dejson.get("ca_file") or "")
    if authority:
        arguments += ["--ca-file", authority]
    if not user:
        return arguments
    if source.repository:
        entry = {"name": "charts", "url": source.repository, "username": user, "password": secret}
        entry.update({"caFile": authority} if authority else {})
        helm.keep("repositories.yaml", json.dumps({"apiVersion": "", "repositories": [entry]}))
    else:
        host = urlsplit(source.chart).netloc
        auth = base64.b64encode(f"{user}:{secret}".encode()).decode()
        helm.keep("registry.json", json.dumps({"auths": {host: {"auth": auth}}}))
    return arguments


def _values(source: Source, helm: Helm, tree: Path) -> tuple[tuple[Path, ...], str]:
    """Write the values down; their digest tells of secrets only where they come from."""
    files = []
    for name in source.values_files:
        path = tree / repository_file(name, field="values_files")
        if not path.is_file():
            raise InvalidInput(f"the commit has no file {name!r}", field="values_files", value=name)
        files.append(path)
    values = mapping("values", source.values or {}, "Give {name: value}.")
    secrets = mapping("secret_values", source.secret_values or {}, 'Give {"db.password": "conn.password"}.')
    said = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    if values:
        files.append(helm.keep("values.json", json.dumps(values)))
    if secrets:
        files.append(helm.keep("secrets.json", json.dumps(_secrets(secrets))))
    return tuple(files), digest_of([said, values, secrets])


def _secrets(wanted: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, where in wanted.items():
        matching("secret_values", path, _NAMES, "a path of names", 'Write "db.password".')
        form = "a field of a connection"
        remedy = 'Write "my_conn.password"; login, host and extra.name are the others.'
        conn_id, _, name = matching("secret_values", where, _SECRET, form, remedy).partition(".")
        connection = read(conn_id)
        value = (
            connection.extra_dejson.get(name.removeprefix("extra."))
            if name.startswith("extra.")
            else getattr(connection, name)
        )
        if not isinstance(value, str) or not value:
            raise InvalidInput(
                f"connection {conn_id!r} has no {name}", field=f"{conn_id}.{name}", remedy="Set it."
            )
        remember(value)
        *parents, last = path.split(".")
        holder = found
        for parent in parents:
            holder = holder.setdefault(parent, {})
            mapping("secret_values", holder, "One path cannot lead into the value of another.")
        holder[last] = value
    return found


def _ran(helm: Helm, timeout: float, *arguments: str, both: bool = False) -> str:
    said = helm.run(*arguments, timeout=timeout, anywhere=True)
    if said.code:
        raise failure(said.complaints)
    return said.output + said.complaints if both else said.output
