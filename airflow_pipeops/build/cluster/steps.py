"""Which step of a Containerfile failed, and what it said: read from what BuildKit or Buildah wrote. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: So many lines of a step are told.
LAST = 20
_KIT_STEP = re.compile(r"^ > (?P<step>\[?.+):$")
_KIT_RULE = "------"
_KIT_ERROR = re.compile(r"^(?:error|ERROR): (?P<error>.+)")
_KIT_LINE = re.compile(r"^\d+\.\d+ ")
_AH_STEP = re.compile(r"^(?:\[\d/\d\] )?STEP (?P<step>\d+/\d+: .+)")
_AH_ERROR = re.compile(r"^[Ee]rror: (?P<error>.+)")
#: What names something in a message, and says nothing: what is quoted, and what has a slash or a digest.
_NAMES = re.compile(r"\"[^\"]*\"|(?!i/o\b)\S*/\S*|\S+@sha256:\S+")
#: What the network, a registry or a proxy does, and may not do the next time. Not each number is a status.
_PASSING = re.compile(
    r"(?i:\bstatus(?: code)?:? )(?:429|50[0234]|52\d)\b|\b(?:429|50[0234]|52\d) [A-Z][a-z]+"
    r"|(?i:too ?many ?requests|timeout|timed out|connection re(?:set|fused)|no such host|temporary|\bEOF\b"
    r"|deadline exceeded|server misbehaving|unavailable)"
)
#: What a command of the Containerfile says is its own business, also where it speaks of the network.
_COMMAND = re.compile(r"did not complete successfully|while running runtime|building at STEP")


@dataclass(frozen=True)
class FailedStep:
    """Where a build ended.

    :param step: as the engine calls it; empty where no step is to blame, as with a push.
    :param lines: the last that it said.
    :param error: what the engine says.
    :param passing: another attempt may do: a registry or the network failed, and no command.
    """

    step: str
    lines: tuple[str, ...]
    error: str
    passing: bool = False

    def __str__(self) -> str:
        said = f"step {self.step} failed: {self.error}" if self.step else self.error
        if "exit code: 137" in self.error or "exit status 137" in self.error:
            said += " (137 is a kill, most often for memory: look at the limit of the pod)"
        return "\n".join([said, *(f"  {line}" for line in self.lines)])


def unreachable(said: str) -> bool:
    """Tell whether a registry did not answer, rather than say no. Its names, and those of images, may be anything.

    :param said: by an engine, or a kubelet.
    :return: whether another attempt may do.
    """
    return bool(_PASSING.search(_NAMES.sub(" ", said)))


def failed_step(lines: Sequence[str]) -> FailedStep | None:
    """Find where a build failed.

    :param lines: of its log, in order.
    :return: the step; ``None`` where the log does not tell.
    """
    errors = [match["error"] for line in lines if (match := _KIT_ERROR.match(line) or _AH_ERROR.match(line))]
    if not errors:
        return None
    error = errors[-1].removeprefix("failed to solve: ")
    step, said = _by_buildkit(lines) or _by_buildah(lines, error) or ("", ())
    passing = not _COMMAND.search(error) and unreachable(error)
    return FailedStep(step, tuple(said)[-LAST:], error, passing)


def _by_buildkit(lines: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """BuildKit repeats the step that failed between two rules."""
    for number in range(len(lines) - 1, -1, -1):
        match = _KIT_STEP.match(lines[number])
        if match and number and lines[number - 1] == _KIT_RULE:
            rest = list(lines[number + 1 :])
            end = rest.index(_KIT_RULE) if _KIT_RULE in rest else len(rest)
            return match["step"], [_KIT_LINE.sub("", line) for line in rest[:end]]
    return None


def _by_buildah(lines: Sequence[str], error: str) -> tuple[str, Sequence[str]] | None:
    """Buildah names each step as it begins; whether the last one is to blame, its error says."""
    if "building at STEP" not in error:
        return None
    for number in range(len(lines) - 1, -1, -1):
        if match := _AH_STEP.match(lines[number]):
            return match["step"], [line for line in lines[number + 1 :] if not _AH_ERROR.match(line)]
    return None
