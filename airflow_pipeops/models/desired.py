"""Where the desired state in Git names a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.git.desired import InGit

if TYPE_CHECKING:
    from airflow_pipeops.git.commits import Change
    from airflow_pipeops.git.repository import Commit, GitRepository
    from airflow_pipeops.models.registry import ModelVersion

    #: Writes values by one commit, where others stand now: by path, what to write and what must be there.
    Commits = Callable[[dict[str, str], dict[str, str | None]], Change]


class WantedModel(JsonForm, ABC):
    """Where a file of the desired state says which model is wanted: by values, or by a table of releases."""

    file: str

    @abstractmethod
    def digest(self, git: GitRepository, revision: str = "") -> str:
        """Read the digest of the model that is wanted.

        :param git: the repository.
        :param revision: a commit; by default the tip of the branch.
        :return: the digest; empty where none is named.
        """

    @abstractmethod
    def put(
        self, git: GitRepository, version: ModelVersion, instead: str, commit: Commits
    ) -> tuple[dict[str, str], Change]:
        """Let a version be wanted.

        :param git: the repository.
        :param version: the version.
        :param instead: digest of the model that must be wanted now.
        :param commit: writes it.
        :return: the values that stand there, by path, and the commit.
        """

    def wants(self, git: GitRepository, sha256: str) -> bool:
        """Whether a model is wanted anywhere.

        :param git: the repository.
        :param sha256: its digest.
        :return: whether it is.
        """
        return self.digest(git) == sha256

    def told(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return what else a task should know of what was written.

        :param values: that :meth:`put` has returned.
        :return: plain facts.
        """
        return {}

    def brought(self, git: GitRepository) -> Commit | None:
        """Find the commit that brought the model that is wanted: the newest one before which another was wanted.

        :param git: the repository.
        :return: the commit; ``None`` where the history does not say.
        """
        wanted, revision = self.digest(git), ""
        while wanted and (found := git.last_change(self.file, revision, of_lines=wanted, merged=True)):
            commit = git.describe(found)
            revision = commit.parents[0] if commit.parents else ""
            try:
                before = self.digest(git, revision) if revision else ""
            except (InvalidInput, NotFound):  # there was no such file, or no such value in it
                before = ""
            if before != wanted:
                return commit
        return None


@dataclass(frozen=True)
class ModelInGit(InGit, WantedModel):
    """The values of a manifest that say which model runs.

    :param file: path of the manifest in the repository.
    :param fields: path of a value -> what of the model stands there: ``artifact_uri``, ``sha256``, ``version`` or ``name``.
        The digest must be among them: what is compared is the digest, and never a name or a number.
    """

    called: ClassVar[str] = "model"
    parts: ClassVar[tuple[str, ...]] = ("name", "version", "artifact_uri", "sha256")
    example: ClassVar[str] = '{"model.sha256": "sha256"}'

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.at("sha256"):
            raise InvalidInput(
                "no field holds the digest of the model",
                field="fields",
                value=dict(self.fields),
                remedy='Name the path at which it stands, as {path: "sha256"}.',
            )

    @property
    def digest_path(self) -> str:
        """Where the digest stands."""
        return self.at("sha256")[0]

    def values(self, version: ModelVersion) -> dict[str, str]:
        """Return what stands in the manifest when a version is wanted.

        :param version: the version.
        :return: the values by path.
        """
        return {path: str(getattr(version, part)) for path, part in self.fields.items()}

    def put(
        self, git: GitRepository, version: ModelVersion, instead: str, commit: Commits
    ) -> tuple[dict[str, str], Change]:
        """Write the values of a version where those of another stand.

        :param git: the repository.
        :param version: the version.
        :param instead: digest of the model that must be wanted now.
        :param commit: writes it.
        :return: the values that stand there, by path, and the commit.
        """
        values = self.values(version)
        return values, commit(values, {self.digest_path: instead})

    def digest(self, git: GitRepository, revision: str = "") -> str:
        """Read the digest of the model that is wanted.

        :param git: the repository.
        :param revision: a commit; by default the tip of the branch.
        :return: the digest; empty where the manifest names none.
        :raises NotFound: if there is no such commit or file.
        :raises InvalidInput: if the path leads nowhere.
        """
        return str(self.read(git, revision, [self.digest_path])[self.digest_path] or "")


def wanted_model(given: Any) -> WantedModel:
    """Return what says where a model is wanted.

    :param given: that, or a mapping of the fields of a :class:`ModelInGit`.
    :return: the place.
    :raises InvalidInput: for anything else.
    """
    return given if isinstance(given, WantedModel) else ModelInGit.of(given)
