"""Read a Containerfile (Dockerfile) as far as it takes to find and pin its base images. Pure.

A base is named in ``FROM``, in ``COPY --from=`` and in ``RUN --mount=from=``, also behind an ``ARG``. What stands in
a heredoc is text of the author's and no instruction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from airflow_pipeops.exceptions import InvalidInput

_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<(-?)([\"']?)([^\s<\"']+)\2(?=$|[\s;|&>)])")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
_FROM = re.compile(r"((?:--\S+\s+)*)(\S+)(?:\s+[Aa][Ss]\s+(\S+))?")
_COPIED = re.compile(r"(?:^|\s)--from=(\"?)([^\s\"]+)\1(?=\s|$)")
_MOUNTED = re.compile(r"--mount=(\S+)")
_VARIABLE = re.compile(
    r"\\(?P<escaped>.)|\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<mark>:?[-+])(?P<word>[^{}]*))?\})"
)
#: Arguments that the builder itself sets, per platform.
_OF_PLATFORM = re.compile(r"(TARGET|BUILD)(PLATFORM|OS|ARCH|VARIANT|OSVERSION)")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    :param number: of its first line, from 1.
    :param word: in capitals, for example ``FROM``.
    :param rest: what follows, continued lines joined, without comments.
    :param lines: how many lines of the file it takes, without its heredocs.
    :param heredocs: lines of text that follow it.
    """

    number: int
    word: str
    rest: str
    lines: int
    heredocs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Base:
    """A base image, where a Containerfile names it.

    :param at: the instruction.
    :param written: its name as it is written there.
    :param name: its name, with the arguments put in.
    """

    at: Instruction
    written: str
    name: str


def instructions(text: str, escape: str = "") -> list[Instruction]:
    """Split a Containerfile into its instructions.

    :param escape: the only escape character that will do; empty for what the file says.
    :return: the instructions, in order.
    :raises InvalidInput: if it ends in the middle of one.
    """
    found: list[Instruction] = []
    lines = text.removeprefix("\ufeff").splitlines()
    mark = _escape(lines, escape)
    pending, begun, at = "", 0, 0
    while at < len(lines):
        stripped = lines[at].strip()
        at += 1
        if not stripped or stripped.startswith("#"):
            continue
        begun = begun or at
        if stripped.endswith(mark):
            pending += stripped[:-1] + " "
            continue
        word, _, rest = (pending + stripped).replace("\t", " ").partition(" ")
        one = Instruction(begun, word.upper(), rest.strip(), at - begun + 1)
        if one.word in _WITH_HEREDOCS:
            end = at
            for tabs, _, name in _HEREDOC.findall(one.rest):
                end = _end_of_heredoc(lines, end, name, bool(tabs), one)
            one, at = replace(one, heredocs=tuple(lines[at:end])), end
        found.append(one)
        pending, begun = "", 0
    if pending:
        raise refused(begun, pending.split()[0], "It ends with a continuation.")
    return found


def bases(text: str, arguments: Mapping[str, str] | None = None, platforms: Sequence[str] = ()) -> list[Base]:
    """Find the base images, without the file's own stages and ``scratch``.

    :param arguments: build arguments.
    :param platforms: that are built, for a name that depends on them.
    :return: one for each place that names one.
    :raises InvalidInput: for a name that cannot be told.
    """
    found: list[Base] = []
    stages = {"scratch"}
    declared: dict[str, str] = {}
    for one in instructions(text):
        if one.word == "ARG" and len(stages) == 1:  # of the whole file; a stage's own are not for FROM
            _declare(one, arguments or {}, declared)
        elif one.word == "FROM":
            found += _begun(one, declared, platforms, stages)
        elif one.word in ("COPY", "RUN"):
            found += _copied(one, stages)
    return found


def _declare(one: Instruction, given: Mapping[str, str], declared: dict[str, str]) -> None:
    for item in one.rest.split():
        name, equals, default = item.partition("=")
        if name in given or equals:
            declared[name] = given.get(name, _expanded(one, default.strip("\"'"), declared))


def _begun(
    one: Instruction, declared: Mapping[str, str], platforms: Sequence[str], stages: set[str]
) -> list[Base]:
    """Return the base of a stage, unless it is another stage, and add the stage."""
    match = _FROM.fullmatch(one.rest)
    if match is None:
        raise refused(one.number, f"FROM {one.rest}", "Write FROM <image> [AS <name>].")
    names = _names(one, match[2], declared, platforms)
    outside = {name for name in names if name.lower() not in stages}
    if len(outside) > 1:
        raise refused(
            one.number, f"FROM {match[2]}", "Name one image of several platforms, or a stage for each."
        )
    number = sum(stage.isdigit() for stage in stages)
    stages |= {str(number), (match[3] or "scratch").lower()}
    return [Base(one, match[2], name) for name in outside]


def _copied(one: Instruction, stages: set[str]) -> list[Base]:
    """Return what an instruction takes from other images."""
    found = []
    for name in _sources(one):
        if "$" in name:
            raise refused(
                one.number,
                f"{one.word} --from={name}",
                f"Write FROM {name} AS <name> above, and --from=<name> here: engines put no argument in here.",
            )
        if name.lower() not in stages:
            found.append(Base(one, name, name))
    return found


def pinned(text: str, named: Sequence[Base], digests: Mapping[str, str]) -> str:
    """Write every base image by its digest.

    :param text: the Containerfile.
    :param named: as :func:`bases` found them.
    :param digests: name -> name with the digest.
    :return: the file, otherwise unchanged.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    for base in named:
        first, last = base.at.number - 1, base.at.number - 1 + base.at.lines
        place, pin = "\n".join(lines[first:last]), digests[base.name]
        if base.at.word == "FROM":
            # The rest of the instruction stays, so that its flags and its name do.
            pattern, new = rf"(?<=\s){re.escape(base.written)}(?=\s|\\|`|$)", pin
        else:
            pattern, new = rf"(?<=from=)(\"?){re.escape(base.written)}\1(?=[\s,\\`]|$)", pin
        changed = re.sub(pattern, new, place, count=1)  # a digest and a name hold no backslash
        lines[first:last] = changed.split("\n")
    return "\n".join(lines) + "\n"


def refused(number: int, what: str, remedy: str) -> InvalidInput:
    """Return the error of a line that cannot be read."""
    return InvalidInput(
        f"line {number} of the Containerfile cannot be read: {what}",
        field="Containerfile",
        value=what,
        remedy=remedy,
    )


def _escape(lines: Sequence[str], only: str) -> str:
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape":
            if match[2] not in ("\\", "`") or (only and match[2] != only):
                raise refused(number, "# escape", "Use the backslash, which is the default.")
            return match[2]
    return "\\"


def _end_of_heredoc(lines: Sequence[str], at: int, name: str, tabs: bool, one: Instruction) -> int:
    for number in range(at, len(lines)):
        if (lines[number].lstrip("\t") if tabs else lines[number]) == name:
            return number + 1
    raise refused(
        one.number, f"{one.word} <<{name}", f"Its text has no end: write {name} on a line of its own."
    )


def _names(
    one: Instruction, written: str, declared: Mapping[str, str], platforms: Sequence[str]
) -> list[str]:
    """Return what a name becomes: one, or one for each platform."""
    asked = {found["plain"] or found["name"] for found in _VARIABLE.finditer(written)} - {None}
    if not any(_OF_PLATFORM.fullmatch(name) and name not in declared for name in asked):
        return [_expanded(one, written, declared)]
    if not platforms or any(name.startswith("BUILD") for name in asked):
        raise refused(
            one.number, f"FROM {written}", "Name the platforms= of the task, and use TARGET arguments only."
        )
    return [_expanded(one, written, {**_of_platform(item), **declared}) for item in platforms]


def _of_platform(platform: str) -> dict[str, str]:
    system, arch, variant, *_ = (*platform.split("/"), "", "")
    return {"TARGETPLATFORM": platform, "TARGETOS": system, "TARGETARCH": arch, "TARGETVARIANT": variant}


def _expanded(one: Instruction, written: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return found["escaped"]
        name, mark, word = found["plain"] or found["name"], found["mark"] or "", found["word"] or ""
        known = values.get(name)
        there = known is not None and (known != "" or not mark.startswith(":"))
        if mark.endswith("+"):
            return word if there else ""
        if there:
            return known or ""
        if mark:
            return word
        raise refused(
            one.number, f"{one.word} {one.rest}",
            f"Nothing is known of ${name}: give it a default (ARG {name}=...), or a value in build_args.",
        )  # fmt: skip

    return _VARIABLE.sub(value, written)


def _sources(one: Instruction) -> Iterator[str]:
    """Yield the names in ``COPY --from=`` and ``RUN --mount=...,from=``."""
    if one.word == "COPY":
        yield from (found[2] for found in _COPIED.finditer(one.rest))
        return
    for mount in _MOUNTED.findall(one.rest):
        for item in mount.split(","):
            key, _, value = item.partition("=")
            if key == "from" and value:
                yield value
