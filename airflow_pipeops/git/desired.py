"""Where the desired state in Git says what an environment has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow_pipeops.base.arguments import mapping, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.git.values.edits import get_values

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository

Place = TypeVar("Place", bound="InGit")


@dataclass(frozen=True)
class InGit(JsonForm):
    """The values of a file that say what an environment has.

    :param file: path of the file in the repository.
    :param fields: path of a value -> what stands there, one of :attr:`parts`.
    """

    #: What the values are parts of.
    called: ClassVar[str]
    #: What may stand at a path.
    parts: ClassVar[tuple[str, ...]]
    #: How ``fields`` may look.
    example: ClassVar[str]

    file: str
    fields: Mapping[str, str]

    def __post_init__(self) -> None:
        demand_types(self)
        mapping("fields", self.fields, f"Give {{path: part}}, such as {self.example}.")
        for part in self.fields.values():
            one_of("fields", part, self.parts, called=f"part of a {self.called}")

    @classmethod
    def of(cls: type[Place], given: Any) -> Place:
        """Return what was given, or what a mapping of its fields says.

        :param given: either.
        :return: the place.
        :raises InvalidInput: for anything else.
        """
        if isinstance(given, cls):
            return given
        known = mapping("desired", given, f"Give {cls.__name__}(file, fields), or a mapping of both.")
        return cls(str(known.get("file", "")), known.get("fields") or {})

    def at(self, part: str) -> list[str]:
        """Return the paths at which a part stands."""
        return [path for path, found in self.fields.items() if found == part]

    def read(self, git: GitRepository, revision: str, paths: Iterable[str]) -> Mapping[str, Any]:
        """Read values of the file.

        :param git: the repository.
        :param revision: a commit; empty for the tip of the branch.
        :param paths: of the values.
        :return: the values by path.
        :raises NotFound: if there is no such commit or file.
        :raises InvalidInput: if a path leads nowhere.
        """
        return get_values(git.read(self.file, revision).decode("utf-8", "replace"), list(paths))
