"""A model artifact: a folder ``<root>/<name>/<sha256>/`` with ``model.skops`` and ``model.json``.

The digest is the SHA-256 of a canonical list of the files' digests, so it fixes every byte. Reading checks it before
anything is deserialised. Registry, desired state and server all name a model by this digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import serialized, storage

FORMAT = "pipeops-model/v1"
FILES = ("model.json", "model.skops")

#: pandas type -> Open Inference Protocol type.
DATATYPES = {"int64": "INT64", "float64": "FP64", "str": "BYTES", "object": "BYTES", "string": "BYTES"}
#: and back, as both pandas 2 and 3 understand it.
DTYPES = {"INT64": "int64", "FP64": "float64", "BYTES": "object"}


@dataclass(frozen=True)
class Manifest:
    """What ``model.json`` says.

    :param name: of the model.
    :param features: input column -> datatype of the Open Inference Protocol, in order.
    :param target: predicted column, if stated.
    :param metrics: metric -> value on the held-out data.
    :param data_digest: of the training data.
    :param versions: of the libraries it was trained with.
    :param time_column: column that orders its rows in time, if stated.
    :param trained_until: the latest time among the rows that it learned from, as that column has it.
    :param feature_set: ``{path, digest}`` of the code that makes its features, if stated: who serves it must carry that.
    """

    name: str
    features: Mapping[str, str]
    target: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    data_digest: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    time_column: str | None = None
    trained_until: str | None = None
    feature_set: Mapping[str, str] | None = None

    def to_bytes(self) -> bytes:
        """Return canonical JSON; the order of the features is kept as a list."""
        content = {
            **asdict(self),
            "format": FORMAT,
            "features": [list(item) for item in self.features.items()],
        }
        return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes, uri: str) -> Manifest:
        """Read it back.

        :return: the manifest.
        :raises BadResponse: if it is none.
        """
        try:
            found = parsed(content)
            if found.pop("format") != FORMAT:
                raise ValueError("another format")
            return cls(**{**found, "features": dict(found["features"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise storage.bad_manifest(uri, str(error)) from error


@dataclass(frozen=True)
class Stored:
    """Where an artifact is, and its digest.

    :param uri: of its folder.
    :param sha256: digest over its files, in hex.
    """

    uri: str
    sha256: str


@dataclass(frozen=True)
class Loaded:
    """A verified artifact in memory.

    :param model: the fitted model.
    :param manifest: what it says about itself.
    :param sha256: the digest that was verified, in hex.
    """

    model: Any
    manifest: Manifest
    sha256: str


def features_of(frame: Any, columns: Iterable[str]) -> dict[str, str]:
    """Read the datatypes of a table's columns.

    :return: the datatypes by column.
    :raises InvalidInput: for a type that cannot be sent over the protocol.
    """
    found = {}
    for column in columns:
        kind = str(frame[column].dtype)
        if kind not in DATATYPES:
            raise InvalidInput(
                f"column {column!r} has the type {kind}",
                field=column,
                value=kind,
                remedy="Convert it to int64, float64 or str in the features.",
            )
        found[column] = DATATYPES[kind]
    return found


def library_versions() -> dict[str, str]:
    """Return the versions on which a stored model depends."""
    import platform
    from importlib.metadata import version

    libraries = ("numpy", "pandas", "scikit-learn", "skops")
    return {"python": platform.python_version(), **{library: version(library) for library in libraries}}


def save(model: Any, manifest: Manifest, root: Any, *, trusted: Iterable[str] = ()) -> Stored:
    """Store an artifact under its digest; storing the same again changes nothing.

    :param root: path of a folder or an object-store prefix.
    :param trusted: types to trust beyond :data:`serialized.TRUSTED`.
    :return: where it is, and its digest.
    """
    contents = {"model.json": manifest.to_bytes(), "model.skops": serialized.dumps(model, trusted=trusted)}
    digest = _digest(contents)
    folder = root / manifest.name / digest
    for name in reversed(FILES):  # model.json last: where it is, the rest is there
        storage.put(folder / name, contents[name])
    return Stored(storage.uri_of(folder), digest)


def verify(uri: str, sha256: str) -> dict[str, bytes]:
    """Read an artifact's files and check their digest; nothing is deserialised.

    :param uri: of its folder.
    :return: the content of each file, by name.
    :raises NotFound: if a file is missing.
    :raises InvalidInput: if the digest differs.
    """
    contents = {name: storage.get(f"{uri.rstrip('/')}/{name}") for name in FILES}
    found = _digest(contents)
    if found != sha256:
        raise InvalidInput(
            f"the digest of the model at {uri} is {found}, not {sha256}",
            field="sha256",
            value=sha256,
            remedy="The files were altered, or the digest belongs to another model. Nothing was loaded.",
        )
    return contents


def manifest_of(uri: str, sha256: str) -> Manifest:
    """Verify an artifact, and read what it says of itself; see :func:`verify`."""
    return Manifest.from_bytes(verify(uri, sha256)["model.json"], uri)


def load(uri: str, sha256: str, *, trusted: Iterable[str] = ()) -> Loaded:
    """Verify an artifact, then load it."""
    contents = verify(uri, sha256)
    manifest = Manifest.from_bytes(contents["model.json"], uri)
    return Loaded(serialized.loads(contents["model.skops"], trusted=trusted), manifest, sha256)


def _digest(contents: Mapping[str, bytes]) -> str:
    listed = "".join(f"{storage.sha256(contents[name])}  {name}\n" for name in sorted(contents))
    return storage.sha256(listed.encode())
