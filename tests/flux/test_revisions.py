"""The ways in which Flux writes a revision."""

from __future__ import annotations

import pytest

from airflow_pipeops.flux.revisions import names, tried
from tests.flux.objects import DIGEST, NEW


@pytest.mark.parametrize(
    ("written", "origin", "first", "also"),
    [
        (f"main@sha1:{NEW}", "", NEW, f"main@sha1:{NEW}"),
        (f"user@host/branch@sha1:{NEW}", "", NEW, NEW),
        (f"sha1:{NEW}", "", NEW, f"sha1:{NEW}"),
        (f"refs/tags/v1@sha1:{NEW}", "", NEW, NEW),
        (f"main/{NEW}", "", NEW, NEW),
        (f"latest@{DIGEST}", "", DIGEST, DIGEST.removeprefix("sha256:")),
        (f"latest@{DIGEST}", f"main@sha1:{NEW}", NEW, DIGEST),
        (f"latest@{DIGEST}", NEW, NEW, DIGEST),
        (DIGEST, "", DIGEST.removeprefix("sha256:"), DIGEST),
        ("1.2.3", "", "1.2.3", "1.2.3"),
        ("1.2.3+0cc9a8446c95", "", "1.2.3+0cc9a8446c95", "1.2.3+0cc9a8446c95"),
    ],
)
def test_names(written: str, origin: str, first: str, also: str) -> None:
    found = names(written, origin)
    assert found[0] == first
    assert also in found
    assert found[-1] == written


def test_nothing_has_no_name() -> None:
    assert names("") == ()


@pytest.mark.parametrize("short", [f"main@sha1:{NEW[:12]}", "main@sha1:", "@", "main@md5:x"])
def test_what_is_no_commit_is_only_itself(short: str) -> None:
    assert names(short) == (short,)


def test_the_revision_that_is_worked_on() -> None:
    assert (
        tried(f"Fetching manifests for revision main@sha1:{NEW} with a timeout of 9m30s")
        == f"main@sha1:{NEW}"
    )
    assert tried("Fulfilling prerequisites") == ""
