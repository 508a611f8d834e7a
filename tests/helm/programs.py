"""Helm's own programs, run on the chart without a cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.helm.running import helm

CHART = Path(__file__).resolve().parents[2] / "helm" / "pipeops"
Object = dict[str, Any]


def run(major: str, *arguments: str, values: Any = None) -> subprocess.CompletedProcess[str]:
    """Run Helm on values; it reads no cluster and no configuration of the machine."""
    command = [helm(major), *arguments, "--values", "-"]
    return subprocess.run(
        command, input=yaml.safe_dump(values or {}), capture_output=True, text=True, timeout=120
    )


def alone(major: str, home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm with nothing of the machine's but a home of its own, which keeps what it fetches."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run([helm(major), *arguments], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def template(major: str, values: Any = None) -> str:
    """Render the chart, without the blank lines that majors differ in."""
    done = run(major, "template", "pipeops", str(CHART), "--namespace", "airflow", values=values)
    assert done.returncode == 0, f"{done.stderr}\n{yaml.safe_dump(values)}"
    return "\n".join(filter(str.strip, done.stdout.splitlines())) + "\n"


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return what is at the ends of a mapping: path -> value."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name, inner in value.items() for key, leaf in leaves(inner, (*path, name)).items()}


def objects(text: str) -> list[Object]:
    """Read what was rendered."""
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]
