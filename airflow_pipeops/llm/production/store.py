"""Where sampled calls lie: Parquet by its digest, and a manifest for each source and window, which is written last.

``<root>/calls/<app>/<source>/<start>_<end>.json`` names ``<root>/data/<sha256>/calls.parquet``. A window that is sampled
again replaces its manifest, so its calls are never there twice.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.documents import parsed, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import BadResponse, InvalidInput, NotFound
from airflow_pipeops.llm.production.calls import Call, table
from airflow_pipeops.llm.production.sampling import Drawn
from airflow_pipeops.models import storage

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "pipeops-calls/v1"
#: Bytes of one line; a longer one is counted and not read.
LINE = 8 << 20
#: Files of one source.
FILES = 10_000
_ENDS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Window(JsonForm):
    """What a manifest says of its window.

    :param app: whose calls they are.
    :param source: digest of what names the source.
    :param start: of the window, in ISO 8601.
    :param end: of the window.
    :param file: URI of the Parquet file.
    :param sha256: digest of its bytes.
    :param counts: what became of the calls of the window.
    """

    app: str
    source: str
    start: str
    end: str
    file: str
    sha256: str
    counts: Drawn = field(default_factory=Drawn)


def app_name(value: str) -> str:
    """Refuse a name that makes no good folder.

    :return: the name.
    :raises InvalidInput: for such a name.
    """
    remedy = "Use letters, digits, dots, dashes and underscores."
    return matching("app", value, _APP, "the name of an application", remedy)


def write(
    root: Any, app: str, source: str, start: datetime, end: datetime, calls: Sequence[Call], counts: Drawn
) -> Window:
    """Keep the calls of a window, and then its manifest.

    :param root: folder or prefix.
    :param app: whose calls they are.
    :param source: what names the source.
    :param calls: masked.
    :param counts: what became of the others.
    :return: what the manifest says.
    """
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table(calls), buffer, compression="zstd")
    content = buffer.getvalue()
    path = root / "data" / storage.sha256(content) / "calls.parquet"
    storage.put(path, content)
    named = sha256(source.encode()).hexdigest()[:16]
    kept = Window(app, named, _iso(start), _iso(end), storage.uri_of(path), storage.sha256(content), counts)
    manifest = json.dumps({"format": FORMAT, **kept.to_json()}, sort_keys=True, indent=1).encode()
    storage.put(root / "calls" / app / named / f"{_stamp(start)}_{_stamp(end)}.json", manifest)
    return kept


def windows(root: Any, app: str, since: datetime, until: datetime | None = None) -> list[Window]:
    """Find the windows of an application that reach into a time.

    :param root: as it was written.
    :param since: of that time.
    :param until: of that time; without an end where none is given.
    :return: the windows, in the order of their begin.
    :raises BadResponse: for a manifest that makes no sense.
    """
    folder, found = storage.at(storage.uri_of(root)) / "calls" / app_name(app), []
    for source in sorted(folder.iterdir(), key=str) if folder.exists() else []:
        for path in sorted(source.iterdir(), key=str):
            begin, _, end = path.name.removesuffix(".json").partition("_")
            if (
                path.name.endswith(".json")
                and end > _stamp(since)
                and (until is None or begin < _stamp(until))
            ):
                found.append(_window(path))
    return sorted(found, key=lambda one: (one.start, one.source))


def calls(found: Sequence[Window], since: datetime, until: datetime | None = None) -> pd.DataFrame:
    """Read the calls of a time.

    :param found: what :func:`windows` gave.
    :param since: of the time.
    :param until: of the time.
    :return: each call once, in the order of time, whatever windows overlap.
    :raises NotFound: if a file is gone.
    :raises InvalidInput: if a file was altered.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = {one.file: one.sha256 for one in found}
    parts = [pq.read_table(io.BytesIO(storage.get(uri, digest))) for uri, digest in files.items()]
    frame: pd.DataFrame = pa.concat_tables([table([]), *parts]).to_pandas()
    frame = frame[frame["at"] >= since]
    if until is not None:
        frame = frame[frame["at"] < until]
    frame = frame.drop_duplicates(["request_id", "prompt_digest"])
    return frame.sort_values(["at", "request_id", "prompt_digest"], ignore_index=True)


def lines(uris: Sequence[str], unreadable: list[str]) -> Iterator[Any]:
    """Read the JSON objects of files, one a line; or the one that a file is.

    :param uris: files, or folders of them; what ends in ``.gz`` is unpacked.
    :param unreadable: is told of each line that is none.
    :yield: what was read; of a file that is one list, its members.
    :raises NotFound: if there is none.
    :raises BadResponse: for one that cannot be unpacked.
    """
    for path in _files(uris):
        with path.open("rb") as packed:
            if not path.name.endswith(".gz"):
                yield from _lines(packed, path.name, unreadable)
                continue
            try:
                yield from _lines(gzip.GzipFile(fileobj=packed), path.name, unreadable)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise BadResponse(
                    f"{path.name} cannot be unpacked: it is damaged, or still being written",
                    remedy="Write it under another name, and rename it when it is whole.",
                ) from error


def _lines(stream: BinaryIO | gzip.GzipFile, name: str, unreadable: list[str]) -> Iterator[Any]:
    line = stream.readline(LINE + 1)
    if _opens_more(line):  # one object over many lines
        yield from _one([line, stream.read(LINE + 1)], name, unreadable)
        return
    while line:
        if len(line) > LINE and not line.endswith(b"\n"):
            unreadable.append(name)
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE)
        elif line.strip():
            yield from _one([line], name, unreadable)
        line = stream.readline(LINE + 1)


def _opens_more(line: bytes) -> bool:
    """Whether a file is one JSON value over several lines, and no lines of JSON."""
    if line.strip() in (b"{", b"["):
        return True
    if not line.lstrip().startswith((b"{", b"[")) or len(line) > LINE:
        return False
    try:
        parsed(line)
    except ValueError:
        return line.rstrip().endswith((b",", b"{", b"[", b":"))
    return False


def _one(content: list[bytes], name: str, unreadable: list[str]) -> Iterator[Any]:
    try:
        found = parsed(b"".join(content), LINE)
    except ValueError:
        unreadable.append(name)
        return
    yield from found if isinstance(found, list) else [found]


def _files(uris: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for uri in uris:
        path = storage.at(uri)
        if path.is_dir():
            found += sorted((one for one in path.rglob("*") if one.name.endswith(_ENDS)), key=str)
        elif path.exists():
            found.append(path)
        else:
            raise NotFound(f"there is no file {uri}", remedy="Check the URI and the storage connection.")
        if len(found) > FILES:
            raise InvalidInput(
                f"{uri} has more than {FILES:,} files",
                field="source",
                value=uri,
                remedy="Name the folder of the day or hour, for example with a template.",
            )
    return found


def _window(path: Any) -> Window:
    uri = storage.uri_of(path)
    try:
        found = parsed(storage.get(uri), LINE)
        if text(found.get("format")) != FORMAT:
            raise ValueError("another format")
        return Window.from_json(found)
    except (ValueError, TypeError, AttributeError) as error:
        raise storage.bad_manifest(uri, str(error)) from error


def _iso(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat(timespec="seconds")


def _stamp(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
