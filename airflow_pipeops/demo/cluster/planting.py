"""``python -m airflow_pipeops.demo.cluster.planting``: put the example repositories into a Git server, once.

A branch that has a commit is left alone: it is somebody's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from airflow_pipeops.demo.seeds import DELIVERABLES, ENVIRONMENTS, SEEDS, VERSIONS
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.git.hook import GitHook


def write_application(folder: Path) -> None:
    """Write the first version of the example application."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SEEDS / "delay-api" / "1", folder, dirs_exist_ok=True, ignore=ignored)


def write_desired_state(folder: Path, registry: str, image: str) -> None:
    """Write what should run where, for a cluster that pulls its images and gives out its own ports.

    :param folder: an empty one.
    :param registry: prefix of the images that are built.
    :param image: that serves models: one with this package.
    """
    shutil.copytree(SEEDS / "deploy", folder, dirs_exist_ok=True)
    served = _reference(image)
    for deliverable in DELIVERABLES:
        apps = folder / "apps" / deliverable
        for file in _changed(apps / "base" / "service.yaml"):
            file["spec"]["type"] = "ClusterIP"
        for environment in ENVIRONMENTS:
            overlay = apps / "overlays" / environment
            (overlay / "node-port.yaml").unlink()
            for file in _changed(overlay / "kustomization.yaml"):
                file["patches"] = [one for one in file["patches"] if one["path"] != "node-port.yaml"]
                if not file["patches"]:
                    del file["patches"]
                for one in file.get("images", []):
                    one["newName"] = f"{registry.rstrip('/')}/{one['name']}"
                file.setdefault("images", [served])


def plant(conn_id: str, fill: Callable[[Path], None], message: str) -> str:
    """Begin the branch of a connection, if it has not begun.

    :param conn_id: of type Git repository.
    :param fill: writes the files of the first commit into a folder.
    :param message: of that commit.
    :return: what was done, for people.
    """
    repository = GitHook(conn_id).get_conn()
    try:
        return f"{conn_id}: {repository.branch} is at {repository.tip()[:12]} already, and is left alone"
    except NotFound:
        pass
    with tempfile.TemporaryDirectory(prefix="pipeops-seed-") as folder:
        fill(Path(folder))
        return f"{conn_id}: {repository.branch} began at {repository.begin(Path(folder), message)[:12]}"


def main() -> int:
    """Plant both repositories; 1 if that did not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", default="pipeops_app_repo", help="connection of the application's code")
    parser.add_argument(
        "--desired-state", default="pipeops_gitops_repo", help="connection of what runs where"
    )
    parser.add_argument(
        "--registry", required=True, help="prefix of the images, such as registry.example.com/team"
    )
    parser.add_argument("--image", required=True, help="image with airflow-pipeops, which serves models")
    options = parser.parse_args()

    def state(folder: Path) -> None:
        write_desired_state(folder, options.registry, options.image)

    try:
        print(plant(options.app, write_application, VERSIONS[1][0]), flush=True)
        print(plant(options.desired_state, state, "Describe staging and production"), flush=True)
    except PipeOpsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _changed(path: Path) -> Iterator[dict[str, Any]]:
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    yield file
    path.write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")


def _reference(image: str) -> dict[str, str]:
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # what follows the colon was a port
        repository, tag = name, ""
    if not repository or not (digest or tag):
        raise InvalidInput(
            f"{image!r} names no version of an image",
            field="image",
            value=image,
            remedy="Write repository@sha256:... or repository:tag.",
        )
    return {
        "name": "airflow-pipeops",
        "newName": repository,
        **({"digest": digest} if digest else {"newTag": tag}),
    }


if __name__ == "__main__":
    sys.exit(main())
