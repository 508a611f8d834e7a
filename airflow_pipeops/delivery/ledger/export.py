"""An export for auditors: a zip file with the entries of a span of time, and what proves them without asking anybody."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.ledger.attestations import statement, summary
from airflow_pipeops.delivery.ledger.checkpoints import Checkpoint, advance, proof
from airflow_pipeops.delivery.ledger.entries import Entry, Judged, judged, utc
from airflow_pipeops.delivery.ledger.files import WIDTH, Ledger
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.signatures import Signer
from airflow_pipeops.delivery.ledger.tree import leaf_hash
from airflow_pipeops.delivery.records import KINDS
from airflow_pipeops.exceptions import InvalidInput, NotFound

#: So many records a release may be made from, until its summary is left out.
_ANCESTORS = 10_000
_COLUMNS = (
    "seq", "id", "kind", "deliverable", "environment", "commit", "at", "stored", "dag", "run", "task", "map_index",
    "manual", "problem",
)  # fmt: skip
_README = """An export of the ledger of airflow-pipeops.

entries.jsonl     the entries, as the ledger holds them, a line each
index.csv         the same as a table
exceptions.csv    what wants an explanation: records that are not believed or were posted by hand, live state that differed
                  from what was approved, releases of which something that they were made from is not known
statements/       the records in the form of in-toto, in signed envelopes (DSSE)
proofs/           for each release, that it is in the ledger (tlog-proof)
checkpoint        size and root of the whole ledger, signed
tree.json         the hashes that stand beside the entries
public-key        that has signed; compare it with the one that you were given
verify.py         python verify.py PUBLIC_KEY

It proves that these entries, without a gap between the first and the last, are in the ledger that was signed, and unchanged.
Nothing proves that everything that happened was recorded.
"""


@dataclass(frozen=True)
class Exported(JsonForm):
    """What an export holds.

    :param entries: number of entries.
    :param first: number of the first entry.
    :param last: number of the last entry.
    :param statements: number of statements.
    :param exceptions: number of lines of the list of exceptions.
    """

    entries: int
    first: int
    last: int
    statements: int
    exceptions: int


def export(
    ledger: Ledger, index: Index, signer: Signer | None, path: Path, *, start: str, end: str
) -> Exported:
    """Write an export.

    :param ledger: the files.
    :param index: of the ledger, up to date.
    :param signer: the key.
    :param path: of the zip file.
    :param start: ISO-8601 time with its zone, from which on events were stored.
    :param end: before this time.
    :return: what it holds.
    :raises InvalidInput: without a key, or for a time that is none.
    :raises NotFound: if nothing was stored in that time.
    """
    if signer is None:
        raise InvalidInput(
            "an export is signed, and there is no key",
            field="ledger_key_conn_id",
            remedy="Make a connection of type Signing key, and name it in [pipeops] ledger_key_conn_id.",
        )
    first, last = index.between(_time("start", start), _time("end", end))
    if not first:
        raise NotFound(f"the ledger has nothing that was stored from {start} to {end}")
    note = advance(ledger, ledger.head().size, signer, signer.name)
    lines = list(islice(ledger.read(first - 1), last - first + 1))
    entries = [Entry.read(line) for line in lines]
    exceptions: list[tuple[Any, ...]] = []
    statements = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README", _README)
        file.writestr("verify.py", Path(__file__).with_name("auditor.py").read_text(encoding="utf-8"))
        file.writestr("public-key", f"{signer.public}\n")
        file.writestr("checkpoint", note)
        file.writestr("tree.json", json.dumps(_beside(ledger, lines, first, Checkpoint.read(note).size)))
        file.writestr("entries.jsonl", b"".join(line + b"\n" for line in lines))
        rows = []
        for entry in entries:
            found, problem = judged(entry), index.problem(entry.seq)
            release = found.kind == "release" and not problem
            before = _before(found, index) if release else _Before()
            for name, stated in () if problem else _stated(entry, before, f"https://{signer.name}/pipeops"):
                envelope = signer.envelope(json.dumps(stated, sort_keys=True).encode())
                file.writestr(f"statements/{entry.seq:09d}-{name}.json", json.dumps(envelope))
                statements += 1
            if release:
                file.writestr(f"proofs/{entry.seq:09d}.tlog-proof", proof(ledger, entry.seq, note))
            exceptions += [(entry.seq, found.id, said) for said in _exceptions(entry, problem, before)]
            rows.append(_row(entry, found, problem))
        file.writestr("index.csv", _csv(_COLUMNS, rows))
        file.writestr("exceptions.csv", _csv(("seq", "id", "what"), exceptions))
    return Exported(len(entries), first, last, statements, len(exceptions))


@dataclass(frozen=True)
class _Before:
    """What a record was made from.

    :param entries: of the records.
    :param missing: ids of those that nobody holds.
    """

    entries: Sequence[Entry] = ()
    missing: Sequence[str] = ()


def _stated(entry: Entry, before: _Before, verifier: str) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = text(entry.extra.get("kind"))
    yield kind if kind in KINDS else "unknown", statement(entry, verifier)
    if kind != "release" or len(before.entries) >= _ANCESTORS:
        return
    if found := summary(entry, before.entries, before.missing, verifier):
        yield "summary", found


def _before(record: Judged, index: Index) -> _Before:
    """Walk to all that a record was made from; what nobody holds is named."""
    found: dict[str, Entry | None] = {}
    frontier = list(record.parents)
    while frontier and len(found) < _ANCESTORS:
        identifier = frontier.pop()
        if identifier not in found:
            there = found[identifier] = index.record(identifier)
            frontier += judged(there).parents if there else ()
    return _Before([one for one in found.values() if one], [one for one, there in found.items() if not there])


def _exceptions(entry: Entry, problem: str, before: _Before) -> Iterator[str]:
    kind, body = text(entry.extra.get("kind")), map_(entry.extra.get("body"))
    if problem:
        yield f"not believed: {problem}"
    elif entry.manual:
        yield "posted by hand, on an asset for which that is accepted"
    elif kind == "differences" and body.get("verdict") != "clean":
        yield f"live state differed from the desired state: {text(body.get('reason'), 500)}"
    elif kind == "release":
        for identifier in before.missing:
            yield f"it was made from record {identifier}, which nobody holds"


def _row(entry: Entry, found: Judged, problem: str) -> tuple[Any, ...]:
    return (
        entry.seq, found.id, found.kind, found.deliverable, found.environment, found.commit, found.at, entry.stored,
        entry.dag, entry.run, entry.task, entry.map_index, int(entry.manual), problem,
    )  # fmt: skip


def _csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        # A spreadsheet takes what begins so for a formula. The auditor's program writes ids in the same way.
        formula = ("=", "+", "-", "@", "\t", "\r")
        writer.writerow(
            [f"'{cell}" if isinstance(cell, str) and cell.startswith(formula) else cell for cell in row]
        )
    return out.getvalue().encode("utf-8", "replace")


def _beside(ledger: Ledger, lines: list[bytes], first: int, size: int) -> dict[str, Any]:
    """Return the hashes from which, with the lines, the root is made."""
    before = ledger.lines((first - 1) // WIDTH)[: (first - 1) % WIDTH]
    last = first + len(lines) - 1
    end = min(-(-last // WIDTH) * WIDTH, size)
    after = list(islice(ledger.read(last), end - last))
    return {
        "parts": [part.hex() for part in ledger.parts(size)],
        "before": [leaf_hash(line).hex() for line in before],
        "after": [leaf_hash(line).hex() for line in after],
    }


def _time(field: str, value: str) -> str:
    if found := utc(value if "T" in value else f"{value}T00:00:00+00:00"):
        return found
    raise InvalidInput(
        f"{field} {value!r} is no time",
        field=field,
        value=value,
        remedy="Give a day, such as 2026-07-01, or an ISO-8601 time with its zone.",
    )
