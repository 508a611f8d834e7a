"""Where the desired state in Git names a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.git.desired import InGit

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import Commit, GitRepository
    from airflow_pipeops.models.registry import ModelVersion


@dataclass(frozen=True)
class ModelInGit(InGit):
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

    def digest(self, git: GitRepository, revision: str = "") -> str:
        """Read the digest of the model that is wanted.

        :param git: the repository.
        :param revision: a commit; by default the tip of the branch.
        :return: the digest; empty where the manifest names none.
        :raises NotFound: if there is no such commit or file.
        :raises InvalidInput: if the path leads nowhere.
        """
        return str(self.read(git, revision, [self.digest_path])[self.digest_path] or "")

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
