"""Base images are found wherever a Containerfile names them, and pinned there."""

from __future__ import annotations

import pytest

from airflow_pipeops.build import containerfile, wanted
from airflow_pipeops.exceptions import InvalidInput

D = "@sha256:" + "0" * 64


def names(text: str, **arguments: str) -> list[str]:
    return [base.name for base in containerfile.bases(text, arguments)]


def pin(text: str, **arguments: str) -> str:
    found = containerfile.bases(text, arguments)
    return containerfile.pinned(text, found, {base.name: base.name.partition(":")[0] + D for base in found})


def test_base_images_of_a_file_with_stages() -> None:
    text = "FROM --platform=linux/amd64 golang:1 AS b\nRUN x\nFROM b AS c\nFROM scratch\nFROM debian\nCOPY --from=0 / /\n"
    assert names(text) == ["golang:1", "debian"]


@pytest.mark.parametrize(
    ("text", "arguments", "found"),
    [
        ("ARG B=debian\nFROM $B", {}, ["debian"]),
        ("ARG B=debian\nFROM ${B}:12", {"B": "ubuntu"}, ["ubuntu:12"]),
        ("ARG V=1\nARG B=python:$V\nFROM ${B}-slim", {"V": "3"}, ["python:3-slim"]),
        ("FROM ${B:-alpine}", {}, ["alpine"]),
        ("ARG B=\nFROM ${B:-alpine}${B:+x}", {}, ["alpine"]),
        ('ARG B="debian"\nFROM $B AS x\nFROM x', {}, ["debian"]),
        ("FROM a\nARG B=late\nCOPY --from=tools:1 /x /x", {}, ["a", "tools:1"]),
        ("FROM a AS One\nFROM b\nCOPY --chown=1 --from=one /x /x\nCOPY --from=0 y y", {}, ["a", "b"]),
        ("FROM a\nRUN --mount=type=bind,from=tools,target=/t --mount=type=cache,target=/c x", {}, ["a", "tools"]),
        ("FROM a\nRUN <<EOF\nFROM b\nCOPY --from=c . .\nEOF\nFROM d", {}, ["a", "d"]),
        ("FROM a\nCOPY <<-'E1' <<E2 /x/\n\tFROM b\n\tE1\nFROM c\nE2\nFROM d", {}, ["a", "d"]),
        ("FROM a\nRUN cat <<< FROM\nFROM b", {}, ["a", "b"]),
        ("# escape=`\nFROM a `\n  AS x\nRUN dir c:\\\nFROM b", {}, ["a", "b"]),
        ("FROM a \\\n# why\n\n  AS x\nFROM x", {}, ["a"]),
        ("from a as x\nFrom X", {}, ["a"]),
        ("FROM registry.example.com:5000/a/b:1" + D, {}, ["registry.example.com:5000/a/b:1" + D]),
    ],
)  # fmt: skip
def test_where_a_base_is_named(text: str, arguments: dict[str, str], found: list[str]) -> None:
    assert names(text, **arguments) == found


def test_what_depends_on_the_platform_is_a_stage_for_each() -> None:
    text = "FROM a AS on-amd64\nFROM b AS on-arm64\nFROM on-$TARGETARCH"
    found = containerfile.bases(text, {}, ["linux/amd64", "linux/arm64"])
    assert [base.name for base in found] == ["a", "b"]
    one = containerfile.bases("FROM base-${TARGETARCH}", {}, ["linux/arm64"])
    assert [base.name for base in one] == ["base-arm64"]


@pytest.mark.parametrize(
    ("text", "platforms", "says"),
    [
        ("FROM $B", (), "line 1 .*FROM .B.*Nothing is known of .B.*build_args"),
        ("ARG B\nFROM $B", (), "Nothing is known of .B"),
        ("FROM a-$TARGETARCH", (), "Name the platforms="),
        ("FROM a-$TARGETARCH", ("linux/amd64", "linux/arm64"), "one image of several platforms"),
        ("FROM a\nCOPY --from=$B x x", (), "line 2 .*FROM .B AS <name>"),
        ("FROM a\nRUN <<EOF\nx", (), "line 2 .*has no end.*EOF"),
        ("FROM a b", (), "line 1 .*Write FROM <image>"),
        ("FROM a \\", (), "line 1 .*continuation"),
    ],
)
def test_what_cannot_be_told_is_one_clear_error(text: str, platforms: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        containerfile.bases(text, {}, platforms)


def test_a_pinned_file_differs_in_its_base_images_only() -> None:
    text = (
        "# syntax=docker/dockerfile:1\nARG V=3\nFROM --platform=$BUILDPLATFORM python:$V AS python\n"
        "RUN <<EOF\nFROM python:3\nEOF\nFROM python\nFROM debian \\\n  AS last\n"
        "COPY --from=tools:1 /tools:1 /from=tools:1\nRUN --mount=type=bind,from=tools:1,target=/t x\n"
    )
    assert pin(text) == (
        f"# syntax=docker/dockerfile:1\nARG V=3\nFROM --platform=$BUILDPLATFORM python{D} AS python\n"
        f"RUN <<EOF\nFROM python:3\nEOF\nFROM python\nFROM debian{D} \\\n  AS last\n"
        f"COPY --from=tools{D} /tools:1 /from=tools:1\nRUN --mount=type=bind,from=tools{D},target=/t x\n"
    )


def test_the_key_is_all_that_decides_the_image_and_nothing_else() -> None:
    same = {
        "tree": "t",
        "containerfile": "FROM a",
        "arguments": {"A": "1", "B": "2"},
        "target": "",
        "platforms": ["x", "y"],
    }
    key = wanted.key(**same)
    assert wanted.key(**{**same, "arguments": {"B": "2", "A": "1"}, "platforms": ["y", "x"]}) == key
    others = [
        {"tree": "u"}, {"containerfile": "FROM b"}, {"arguments": {"A": "1"}}, {"target": "t"}, {"platforms": ["x"]},
        {"builder": "m:C"}, {"file": "other/Containerfile"}, {"lfs": True},
    ]  # fmt: skip
    assert len({wanted.key(**{**same, **other}) for other in others} | {key}) == len(others) + 1
