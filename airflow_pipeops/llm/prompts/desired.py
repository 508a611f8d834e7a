"""Where the desired state in Git names a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.desired import InGit
from airflow_pipeops.llm.prompts.prompt import Prompt

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository


@dataclass(frozen=True)
class PromptInGit(InGit):
    """The values of a file that say which prompt an environment has.

    :param file: path of the file in the repository.
    :param fields: path of a value -> what of the prompt stands there: ``content``, its canonical form, or ``sha256``. The
        content must be among them; a digest may stand at several places, such as the ConfigMap and the pod's template.
    """

    called: ClassVar[str] = "prompt"
    parts: ClassVar[tuple[str, ...]] = ("content", "sha256")
    example: ClassVar[str] = '{"data[\'prompt.json\']": "content"}'

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.at("content")) != 1:
            raise InvalidInput(
                "not exactly one field holds the content of the prompt",
                field="fields",
                value=dict(self.fields),
                remedy='Name the path at which it stands, as {path: "content"}.',
            )

    def values(self, content: Any, sha256: Any) -> dict[str, Any]:
        """Return what stands in the file when a prompt is wanted: ``set`` of a commit.

        :param content: the canonical form, or what becomes that when a task runs.
        :param sha256: the digest, or what becomes that.
        :return: the values by path.
        """
        return {path: content if part == "content" else sha256 for path, part in self.fields.items()}

    def wanted(self, git: GitRepository, revision: str = "") -> Prompt | None:
        """Read the prompt that is wanted.

        :param git: the repository.
        :param revision: a commit; by default the tip of the branch.
        :return: the prompt; nothing where none was wanted yet.
        :raises NotFound: if there is no such commit or file.
        :raises InvalidInput: if the content is no prompt, or a digest beside it is another's.
        """
        found = self.read(git, revision, self.fields)
        content = str(found[self.at("content")[0]] or "")
        if content in ("", "none"):
            return None
        prompt = Prompt.read(content, "prompt.json")
        for path in self.at("sha256"):
            if found[path] != prompt.sha256:
                raise InvalidInput(
                    f"{path} of {self.file} is {str(found[path])[:80]!r}, and the prompt beside it has {prompt.sha256[:12]}",
                    field=path,
                    value=found[path],
                    remedy="Set content and digest by one commit; what one edits by hand, the other does not follow.",
                )
        return prompt
