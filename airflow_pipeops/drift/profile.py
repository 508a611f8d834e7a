"""A profile: one side boiled down and saved, so that a reference need not be read again, or even exist any more.

One file, a NumPy archive: ``header`` is canonical JSON, everything else are plain arrays. It is read without pickle, its
size is limited before anything is unpacked, and its digest is verified.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.drift.columns import NO_SEGMENT, Column
from airflow_pipeops.drift.engines import sql
from airflow_pipeops.drift.settings import Kind
from airflow_pipeops.drift.statistics.aggregates import Aggregate, restored
from airflow_pipeops.exceptions import InvalidInput

#: Of the file's layout. Another one is refused.
VERSION = 1
#: Most bytes that a profile may unpack to: some 100 MB are 20,000 columns.
MOST_BYTES = 1 << 30

_KIND = "airflow-pipeops drift profile"


@dataclass(frozen=True, eq=False)
class Profile:
    """Aggregates of one side, with everything that another side needs to be measured the same way.

    :param schema: all columns of the source, also those that were not measured.
    :param kinds: column -> ``numerical`` or ``categorical``.
    :param rows: by segment; the empty one is the whole.
    :param columns: aggregates by segment and column.
    :param maps: of the numeric columns: the literals that both sides share.
    :param source: what the data were, see ``identity()`` of the engines.
    :param engine: name and version of what measured.
    :param dialect: of the engine's SQL.
    :param resolution: fine bins of a numeric column.
    :param categories: as many of the most frequent ones are told apart.
    :param segment_by: column whose values were measured each for itself, too.
    :param model_version: the model that learned from these data, if one did.
    :param created_at: when it was measured, in ISO 8601.
    :param unmeasured: columns of ``kinds`` that could not be measured, and why: in a comparison they are ``undecided``.
    """

    schema: tuple[Column, ...]
    kinds: Mapping[str, Kind]
    rows: Mapping[str, int]
    columns: Mapping[str, Mapping[str, Aggregate]]
    maps: Mapping[str, sql.Map]
    source: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""
    dialect: str = "duckdb"
    resolution: int = sql.RESOLUTION
    categories: int = 10_000
    segment_by: str | None = None
    model_version: str = ""
    created_at: str = ""
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How people call it."""
        return str(self.source.get("name") or "profile")

    @property
    def data_digest(self) -> str:
        """SHA-256 of what was measured, see :class:`Fingerprint`."""
        found = Fingerprint()
        for segment, columns in self.columns.items():
            for name, aggregate in columns.items():
                found.add(segment, name, aggregate)
        return found.hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 of the whole profile."""
        return _digest(*_packed(self))

    def identity(self) -> dict[str, Any]:
        """Return what a record says about the reference."""
        return {
            "kind": "profile",
            "name": self.name,
            "digest": self.digest,
            "data_digest": self.data_digest,
            "rows": self.rows[NO_SEGMENT],
            "engine": self.engine,
            "model_version": self.model_version,
            "created_at": self.created_at,
            "source": dict(self.source),
        }

    def with_model(self, version: str) -> Profile:
        """Return the profile of the same data, for a model that learned from them."""
        return replace(self, model_version=version)

    def to_bytes(self) -> bytes:
        """Return the file."""
        import numpy as np

        header, arrays = _packed(self)
        header["digest"] = _digest(header, arrays)
        text = np.frombuffer(_canonical(header), dtype="uint8")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, header=text, **arrays)
        return buffer.getvalue()

    def save(self, path: Any) -> str:
        """Write the file to a path, a URI, or anything that has ``write_bytes``; return its digest.

        A local file appears whole or not at all.
        """
        from pathlib import Path

        content = self.to_bytes()
        target = _path(path)
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f".{target.name}.part")
            try:
                half.write_bytes(content)
                half.replace(target)
            finally:
                half.unlink(missing_ok=True)
        else:
            target.write_bytes(content)
        return self.digest

    @classmethod
    def load(cls, path: Any, *, digest: str | None = None) -> Profile:
        """Read a file that :meth:`save` wrote.

        :param path: a path, a URI, or anything that has ``read_bytes``.
        :param digest: which one it has to be; by default the one that it claims.
        :return: the profile.
        :raises InvalidInput: if it is damaged, was changed, is of another version, or is another one.
        """
        return cls.from_bytes(_path(path).read_bytes(), digest=digest)

    @classmethod
    def from_bytes(cls, content: bytes, *, digest: str | None = None) -> Profile:
        """Read the content of a file; see :meth:`load`."""
        header, arrays = _unpacked(content)
        if header.get("kind") != _KIND or header.get("version") != VERSION:
            raise _bad(
                f"it is of version {header.get('version')!r}; version {VERSION} is understood",
                "Make it again.",
            )
        claimed = header.pop("digest", None)
        found = _digest(header, arrays)
        if claimed != found:
            raise _bad("its content is not what its digest says: it was changed or damaged", "Make it again.")
        if digest is not None and digest != found:
            raise _bad(
                f"it is {found[:12]} and not the expected {digest[:12]}", "Load the profile of that digest."
            )
        try:
            return _restored(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _bad(
                f"a part is missing or malformed ({type(error).__name__})", "Make it again."
            ) from error


class Fingerprint:
    """SHA-256 of aggregates, in whatever order they are added: equal data that are measured alike have the same one.

    Counts and bounds are in it and sums are not: several threads add doubles in no fixed order, so their last bits differ.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, segment: str, column: str, aggregate: Aggregate) -> None:
        """Take one in; nothing of it is kept."""
        header, arrays = aggregate.header(), aggregate.arrays()
        names = arrays.pop("category", None)
        if names is not None:
            counts = arrays.pop("count")
            header["counts"] = sorted(zip(map(str, names), map(int, counts), strict=True))
        for sums in ("total", "squares"):
            arrays.pop(sums, None)
        self._lines.append(json.dumps([segment, column, _digest(header, arrays)]))

    def hexdigest(self) -> str:
        """Return the digest of all."""
        return hashlib.sha256("\n".join(sorted(self._lines)).encode()).hexdigest()


def _packed(profile: Profile) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and arrays. Texts go into the header, since NumPy stores them as objects, which is pickle."""
    import numpy as np

    arrays: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    for segment in sorted(profile.columns):
        for name in sorted(profile.columns[segment]):
            aggregate = profile.columns[segment][name]
            part: dict[str, Any] = {"segment": segment, "column": name, "header": aggregate.header()}
            for key, values in aggregate.arrays().items():
                if key == "category":
                    part["category"] = [str(value) for value in values]
                else:
                    arrays[f"a{len(parts)}_{key}"] = np.ascontiguousarray(values)
            parts.append(part)
    header = {
        "kind": _KIND,
        "version": VERSION,
        "schema": [[column.name, column.type, column.family] for column in profile.schema],
        "kinds": dict(profile.kinds),
        "rows": dict(profile.rows),
        "maps": {name: [one.centre.hex(), one.scale.hex()] for name, one in profile.maps.items()},
        "source": dict(profile.source),
        "engine": profile.engine,
        "dialect": profile.dialect,
        "resolution": profile.resolution,
        "categories": profile.categories,
        "segment_by": profile.segment_by,
        "model_version": profile.model_version,
        "created_at": profile.created_at,
        "unmeasured": dict(profile.unmeasured),
        "parts": parts,
    }
    return header, arrays


def _restored(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Profile:
    columns: dict[str, dict[str, Aggregate]] = {segment: {} for segment in header["rows"]}
    for place, part in enumerate(header["parts"]):
        prefix = f"a{place}_"
        own = {key.removeprefix(prefix): values for key, values in arrays.items() if key.startswith(prefix)}
        if "category" in part:
            own["category"] = part["category"]
        columns[part["segment"]][part["column"]] = restored(part["header"], own)
    return Profile(
        schema=tuple(Column(str(name), str(type_), str(family)) for name, type_, family in header["schema"]),
        kinds=dict(header["kinds"]),
        rows={str(segment): int(n) for segment, n in header["rows"].items()},
        columns=columns,
        maps={
            name: sql.Map(float.fromhex(centre), float.fromhex(scale))
            for name, (centre, scale) in header["maps"].items()
        },
        source=header["source"],
        engine=header["engine"],
        dialect=header["dialect"],
        resolution=int(header["resolution"]),
        categories=int(header["categories"]),
        segment_by=header["segment_by"],
        model_version=header["model_version"],
        created_at=header["created_at"],
        unmeasured=dict(header["unmeasured"]),
    )


def _unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    import numpy as np

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MOST_BYTES:
                raise _bad(f"it unpacks to more than {MOST_BYTES:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        header = json.loads(arrays.pop("header").tobytes())
    except InvalidInput:
        raise
    except Exception as error:  # zip, zlib, NumPy and JSON each have errors of their own
        raise _bad(
            f"it is damaged or no profile ({type(error).__name__}, {len(content):,} bytes)", "Make it again."
        ) from error
    if not isinstance(header, dict):
        raise _bad("its header is no object", "Make it again.")
    return header, arrays


def _digest(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    running = hashlib.sha256(_canonical(header))
    for name in sorted(arrays):
        values = arrays[name]
        little = values.dtype.newbyteorder("<")
        running.update(f"{name}\t{little.str}\t{values.shape}\n".encode())
        running.update(values.astype(little).tobytes())
    return running.hexdigest()


def _canonical(header: Mapping[str, Any]) -> bytes:
    return json.dumps(
        header, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _path(path: Any) -> Any:
    from pathlib import Path

    if isinstance(path, str) and "://" in path:
        from airflow.sdk import ObjectStoragePath

        return ObjectStoragePath(path)
    return Path(path) if isinstance(path, str) else path


def _bad(what: str, remedy: str = "") -> InvalidInput:
    return InvalidInput(f"the profile cannot be used: {what}", field="profile", remedy=remedy)
