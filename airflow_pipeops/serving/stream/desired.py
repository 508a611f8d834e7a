"""The release table in Git: read from the file of its ConfigMap, and changed by one commit that touches one value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_pipeops.base.documents import map_
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.stream.releases import Release, Table, read

if TYPE_CHECKING:
    from airflow_pipeops.git.commits import Change
    from airflow_pipeops.git.repository import GitRepository

#: How often somebody else may write a release first.
_ATTEMPTS = 5


def data_in(content: bytes, file: str) -> dict[str, str]:
    """Return the data of the ConfigMap in a file.

    :param content: of the file.
    :param file: its path, for messages.
    :return: key -> value.
    :raises InvalidInput: where it holds no such ConfigMap.
    """
    import yaml

    remedy = "Write a ConfigMap with one key for each release under data; empty, it is 'data: {}'."
    try:
        found = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{file} is no YAML: {error}", field="file", value=file, remedy=remedy) from error
    if map_(found).get("kind") != "ConfigMap" or not isinstance(map_(found).get("data"), dict):
        raise InvalidInput(f"{file} is no ConfigMap with data", field="file", value=file, remedy=remedy)
    return dict(map_(found)["data"])


def table_in(content: bytes, file: str) -> Table:
    """Read the release table from the file of its ConfigMap; see :func:`data_in`."""
    return read(data_in(content, file))


def written(
    client: GitRepository,
    file: str,
    plan: Callable[[Table], Release],
    commit: Callable[[dict[str, str], dict[str, str | None]], Change],
) -> tuple[Release, Change]:
    """Write a release; where somebody else has written one meanwhile, plan again on what is there then.

    :param client: of the repository.
    :param file: of the ConfigMap.
    :param plan: returns the release as it is to stand in a table.
    :param commit: writes values where others stand now: by path, what to write and what must be there.
    :return: the release, and the commit.
    """
    for left in reversed(range(_ATTEMPTS)):
        data = data_in(client.read(file, client.fetch()), file)
        release = plan(read(data))
        there = data.get(release.revision)
        path = f"data.{release.revision}"
        # What an earlier attempt of this task has written is found by its commit.
        expect: dict[str, str | None] = {} if there == release.to_text() else {path: there}
        try:
            return release, commit({path: release.to_text()}, expect)
        except InvalidInput:
            now = data_in(client.read(file, client.fetch()), file)
            if not left or now.get(release.revision) == there:
                raise
    raise AssertionError("unreachable")
