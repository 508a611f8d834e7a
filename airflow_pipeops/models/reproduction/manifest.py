"""The file ``training.json``: everything that a model was made from, and what came of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.models import storage
from airflow_pipeops.models.reproduction.code import Code, code_of
from airflow_pipeops.models.reproduction.environment import image, machine, packages

FORMAT = "pipeops-training/v1"


@dataclass(frozen=True)
class TrainingManifest:
    """What a model was made from.

    :param arguments: of the training, as JSON; where its parts are stored is not one of them.
    :param data: ``{digest, rows, files: {URI: SHA-256}}``.
    :param feature_set: ``{path, digest}`` of the features; ``None`` if nobody has said.
    :param code: of trainer and scorer.
    :param packages: name -> version of all that is installed.
    :param python: its version.
    :param machine: what the last bits of a sum depend on.
    :param image: digest of the image that it ran in, if known.
    :param result: what came of it: the model's digest and behaviour, its metrics and curves, and where everything is.
    """

    arguments: Mapping[str, Any]
    data: Mapping[str, Any]
    feature_set: Mapping[str, str] | None
    code: Code
    packages: Mapping[str, str] = field(default_factory=packages)
    python: str = field(default_factory=platform.python_version)
    machine: Mapping[str, Any] = field(default_factory=machine)
    image: str | None = field(default_factory=image)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"format": FORMAT, **asdict(self)}

    @property
    def packages_digest(self) -> str:
        """One digest for all packages and their versions, in hex."""
        return storage.sha256(
            "".join(f"{name}=={self.packages[name]}\n" for name in sorted(self.packages)).encode()
        )

    def put(self, root: Any) -> tuple[str, str]:
        """Store it as ``<root>/trainings/<sha256>/training.json``; return URI and digest."""
        content = json.dumps(self.to_json(), sort_keys=True, indent=1, allow_nan=False).encode()
        digest = storage.sha256(content)
        path = root / "trainings" / digest / "training.json"
        storage.put(path, content)
        return storage.uri_of(path), digest


def of_functions(paths: Iterable[str | None]) -> Code:
    """Return the code of those functions that were given."""
    return code_of([path for path in paths if path])


def read(uri: str, sha256: str) -> TrainingManifest:
    """Read a manifest back.

    :param uri: of the file.
    :param sha256: that its bytes must have.
    :return: the manifest.
    :raises NotFound: if it is not there.
    :raises InvalidInput: if it has been altered.
    :raises BadResponse: if it is none.
    """
    content = storage.get(uri, sha256)
    try:
        found = parsed(content)
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        return TrainingManifest(**{**found, "code": Code.from_json(found["code"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise storage.bad_manifest(uri, str(error)) from error
