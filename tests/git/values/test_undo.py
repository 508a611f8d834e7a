"""What one edit did is taken back, whatever else was edited since."""

from __future__ import annotations

import json

import pytest
import yaml

from airflow_pipeops.git.values.undo import undo

SERVICES = """\
# Shared by all services.
services:
  - name: api  # first
    tag: v1
    env:
      LEVEL: info
  - name: web
    tag: v1
    args: [a, b]
  - name: job
    tag: v1
    text: |
      two
      lines
limits:
  cpu: 1

  memory: 2
"""

API = """\
  - name: api  # first
    tag: v1
    env:
      LEVEL: info
"""
WEB = """\
  - name: web
    tag: v1
    args: [a, b]
"""
JOB = """\
  - name: job
    tag: v1
    text: |
      two
      lines
"""


def later(text: str) -> str:
    """Somebody else's edits of another service, and of another limit."""
    return text.replace("memory: 2", "memory: 3  # more").replace("LEVEL: info", "LEVEL: warn\n      MORE: x")


@pytest.mark.parametrize(
    ("what", "with_it"),
    [
        ("limits:\n", "limits:\n  gpu: 1\n"),
        ("  cpu: 1\n", "  cpu: 1\n  nested:\n    a:\n      - 1\n      - 2\n"),
        (WEB, WEB + "  - name: new\n    tag: v9\n    text: |\n      x\n"),
        (WEB, WEB.replace("tag: v1", "tag: v2\n    port: 80")),
        (JOB, ""),
        (WEB, ""),
        ("    args: [a, b]\n", ""),
        ("    args: [a, b]\n", "    args: [a, b, c]\n"),
        ("  cpu: 1\n", ""),
        ("limits:\n  cpu: 1\n\n  memory: 2\n", "limits:\n  cpu: 2\n\n  memory: 2\nextra: 1\n"),
        (WEB, WEB.replace("tag: v1\n    args: [a, b]", "image: v2\n    args: [a]")),
    ],
)
def test_what_was_added_goes_and_what_was_removed_comes_back(what: str, with_it: str) -> None:
    assert what in SERVICES
    after = SERVICES.replace(what, with_it)
    found = undo(SERVICES, after, later(after))
    assert found is not None
    assert yaml.safe_load(found) == yaml.safe_load(later(SERVICES))
    assert undo(SERVICES, after, found) == found, "twice is once"
    assert "memory: 3  # more" in found
    assert found.startswith("# Shared")


def test_lines_come_back_at_their_place_as_they_were() -> None:
    for lines in (API, WEB, JOB):
        after = SERVICES.replace(lines, "")
        now = after.replace("memory: 2", "memory: 3")
        assert undo(SERVICES, after, now) == SERVICES.replace("memory: 2", "memory: 3")


def test_where_something_else_stands_now_nothing_is_taken_back() -> None:
    added = SERVICES.replace("limits:\n", "limits:\n  gpu: 1\n")
    assert undo(SERVICES, added, added.replace("gpu: 1", "gpu: 2")) is None
    removed = SERVICES.replace("  cpu: 1\n", "")
    assert undo(SERVICES, removed, removed.replace("limits:\n", "limits:\n  cpu: 7\n")) is None
    whole = SERVICES.replace(WEB, "")
    assert (
        undo(SERVICES, whole, whole.replace("services:\n", "services:\n  - name: web\n    tag: v5\n")) is None
    )
    # A value that became a mapping is no value that was set.
    assert undo(SERVICES, SERVICES.replace("cpu: 1", "cpu:\n    a: 1"), later(SERVICES)) is None


def test_json_stays_json() -> None:
    before = {"a": {"x": 1, "y": "old"}, "b": [1]}
    for after in (
        {"a": {"x": 1, "y": "old", "z": {"deep": 1}}, "b": [1]},
        {"a": {"x": 1, "y": "new"}, "b": [1], "c": 2},
        {"a": {"y": "old"}, "b": [1]},
        {"a": {"x": 1}, "b": [1]},
    ):
        for indent in (None, 2):
            now = json.dumps(after | {"later": True}, indent=indent)
            found = undo(json.dumps(before, indent=indent), json.dumps(after, indent=indent), now)
            assert json.loads(found or "") == before | {"later": True}


def test_an_anchor_that_others_use_is_not_taken_away() -> None:
    before = "a: 1\nb: 2\n"
    after = "a: 1\nnew: &x\n  k: 1\nb: 2\n"
    assert undo(before, after, after + "c: *x\n") is None
