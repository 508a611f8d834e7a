"""The release table in Git: read from the file of its ConfigMap, and changed by one commit that touches one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.desired import WantedModel
from airflow_pipeops.serving.stream.releases import Model, Release, Table, announced, read

if TYPE_CHECKING:
    from airflow_pipeops.git.commits import Change
    from airflow_pipeops.git.repository import GitRepository
    from airflow_pipeops.models.desired import Commits
    from airflow_pipeops.models.registry import ModelVersion

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


@dataclass(frozen=True)
class ModelInTable(WantedModel):
    """The release table of a stream, as the place in Git that says which model is wanted.

    Wanted is the model of the newest release that has begun. To take it back, the one before is announced as a release of
    its own, which then begins at an offset: what is scored already stays.

    :param file: of its ConfigMap.
    """

    file: str

    def digest(self, git: GitRepository, revision: str = "") -> str:
        """Read the digest of the newest release that has begun.

        :param git: the repository.
        :param revision: a commit; by default the tip of the branch.
        :return: the digest; empty where none has begun.
        """
        return _wanted(self._table(git, revision))

    def wants(self, git: GitRepository, sha256: str) -> bool:
        """Whether a model scores what comes next in any partition.

        :param git: the repository.
        :param sha256: its digest.
        :return: whether it does.
        """
        return _scores(self._table(git), sha256)

    def put(
        self, git: GitRepository, version: ModelVersion, instead: str, commit: Commits
    ) -> tuple[dict[str, str], Change]:
        """Announce a version, unless it has begun wherever the other one had.

        :param git: the repository.
        :param version: the version.
        :param instead: digest of the model that must be wanted now.
        :param commit: writes it.
        :return: the values that stand there, by path, and the commit.
        :raises InvalidInput: where the other one scores nothing any more, and a third one is wanted.
        """
        model = Model(version.name, version.version, version.artifact_uri, version.sha256)

        def plan(table: Table) -> Release:
            if _wanted(table) == model.sha256 and not _scores(table, instead):
                return next(one for one in reversed(table.releases) if one.start is not None)
            if not _scores(table, instead):
                raise InvalidInput(
                    f"{self.file}: {instead[:12]} scores nothing any more, and {_wanted(table)[:12]} is wanted; nothing was "
                    "written",
                    field="instead",
                    value=instead,
                    remedy="Somebody has decided otherwise meanwhile: look at the file's history, then decide again.",
                )
            return announced(table, model)

        release, change = written(git, self.file, plan, commit)
        return {f"data.{release.revision}": release.to_text()}, change

    def told(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the name of the release that was written.

        :param values: that :meth:`put` has returned.
        :return: ``{release}``.
        """
        return {"release": str(next(iter(values), "")).removeprefix("data.")}

    def _table(self, git: GitRepository, revision: str = "") -> Table:
        return table_in(git.read(self.file, revision), self.file)


def _wanted(table: Table) -> str:
    return next((one.model.sha256 for one in reversed(table.releases) if one.start is not None), "")


def _scores(table: Table, sha256: str) -> bool:
    return any(one.model.sha256 == sha256 for one in table.scoring().values())
