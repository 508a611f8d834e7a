"""What is said of Python versions is what is run: classifiers, workflow, installation and documentation agree."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


def test_each_version_that_is_claimed_is_run() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))
    gate = next(step["with"] for step in workflow["jobs"]["gate"]["steps"] if "with" in step)[
        "python-version"
    ]
    quick = workflow["jobs"]["quick"]["strategy"]["matrix"]["python"]
    assert sorted([gate, *quick]) == sorted(claimed)
    oldest, newest = claimed[0], claimed[-1]
    assert project["requires-python"] == f">={oldest},<3.{int(newest.partition('.')[2]) + 1}"
    install = (ROOT / ".ci" / "install").read_text(encoding="utf-8")
    assert f"Python {oldest} to {newest} is needed" in install
    releasing = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    assert (
        f"`make test` on Python {gate}, `make quick` on {', '.join(quick[:-1])} and {quick[-1]}" in releasing
    )
