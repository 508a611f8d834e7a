"""Whoever changes the ledger is found out, and what was changed is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_pipeops.delivery.ledger.checkpoints import (
    Checkpoint,
    advance,
    newest,
    of_trailer,
    proof,
    proved,
    trailer,
)
from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.signatures import Signer
from airflow_pipeops.delivery.ledger.verify import Verified, verify
from airflow_pipeops.exceptions import InvalidInput
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import entry, record

SIZE = 600
SIGNER = Signer("pipeops.example.com", Ed25519PrivateKey.from_private_bytes(b"1" * 32))


@dataclass
class Kept:
    """A ledger, and what others know of it.

    :param ledger: the files.
    :param ids: of the records, by number.
    :param notes: checkpoints that left the system.
    """

    ledger: Ledger
    ids: list[str]
    notes: list[tuple[str, str]]

    def lines(self, number: int) -> list[bytes]:
        return self.ledger.lines(number)

    def write(self, number: int, lines: list[bytes]) -> None:
        self.ledger.path("entries", number).write_bytes(b"".join(line + b"\n" for line in lines))


def events() -> list[Entry]:
    return [entry(record(body={"n": n}), n) for n in range(1, SIZE + 1)]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[Path, Kept]:
    folder = tmp_path_factory.mktemp("original")
    ledger = Ledger.open((folder / "ledger").as_uri())
    notes, all_events = [], events()
    for start in range(0, SIZE, 200):
        ledger.append(all_events[start : start + 200], ledger.head())
        notes.append((f"commit {start // 200}", advance(ledger, start + 200, SIGNER, "ledger.example.com")))
    index = Index.open(folder / "index.db")
    index.add(Entry.read(line) for line in ledger.read())
    index.close()
    database = Database(f"sqlite:///{folder / 'airflow.db'}")
    database.add(*all_events)
    database.engine.dispose()
    return folder, Kept(ledger, ["", *(str(item.extra["id"]) for item in all_events)], notes)


@pytest.fixture
def kept(original: tuple[Path, Kept], tmp_path: Path) -> Kept:
    folder, known = original
    shutil.copytree(folder / "ledger", tmp_path / "ledger")
    return replace(known, ledger=Ledger.open((tmp_path / "ledger").as_uri()))


def checked(kept: Kept, original: tuple[Path, Kept], *, by: str = "itself") -> Verified:
    if by == "index":
        index = Index.open(original[0] / "index.db")
        try:
            return verify(kept.ledger, kept=index.kept)
        finally:
            index.close()
    if by == "database":
        return verify(kept.ledger, events=Events(Database(f"sqlite:///{original[0] / 'airflow.db'}").engine))
    if by == "commits":
        return verify(kept.ledger, checkpoints=kept.notes, keys=[SIGNER.public])
    return verify(kept.ledger)


@pytest.mark.parametrize("by", ["itself", "index", "database", "commits"])
def test_nothing_is_found_where_nothing_was_done(kept, original, by) -> None:
    found = checked(kept, original, by=by)
    assert (found.findings, found.doubts, found.size) == ((), (), SIZE)
    if by == "commits":
        assert found.agreeing == ("commit 0", "commit 1", "commit 2")


def alter(kept: Kept) -> None:
    lines = kept.lines(0)
    lines[9] = lines[9].replace(b'"n":10', b'"n":11')
    kept.write(0, lines)


def alter_source(kept: Kept) -> None:
    lines = kept.lines(0)
    lines[9] = lines[9].replace(b'"stored":"2026', b'"stored":"2027')
    kept.write(0, lines)


def remove(kept: Kept) -> None:
    lines = kept.lines(0)
    del lines[9]
    kept.write(0, lines)


def reorder(kept: Kept) -> None:
    lines = kept.lines(0)
    lines[8], lines[9] = lines[9], lines[8]
    kept.write(0, lines)


def swap_numbers(kept: Kept) -> None:
    """Reorder, and give each the number of its new place."""
    lines = kept.lines(0)
    lines[8], lines[9] = (Entry.read(lines[at]).numbered(seq).line() for at, seq in ((9, 9), (8, 10)))
    kept.write(0, lines)


def forge(kept: Kept) -> None:
    lines = kept.lines(0)
    lines[9] = entry(record(body={"n": "forged"}), 10, 10).line()
    kept.write(0, lines)


def repeat(kept: Kept) -> None:
    lines = kept.lines(0)
    kept.write(0, [*lines[:10], lines[9], *lines[10:]])


def repeat_as_another(kept: Kept) -> None:
    lines = kept.lines(0)
    lines[9] = Entry.read(lines[4]).numbered(10).line()
    kept.write(0, lines)


def garble(kept: Kept) -> None:
    lines = kept.lines(0)
    lines[9] = lines[9][:40]
    kept.write(0, lines)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (alter, "altered since it was written"),
        (alter_source, "altered since it was written"),
        (remove, "it was removed"),
        (reorder, "at another place than its own"),
        (swap_numbers, "altered since it was written"),
        (forge, "altered since it was written"),
        (repeat, "it stands there twice"),
        (repeat_as_another, "it repeats the event of entry 5"),
        (garble, "cannot be read"),
    ],
)
def test_what_was_done_to_a_record_is_said_with_its_name(kept, original, act: Callable, said: str) -> None:
    act(kept)
    touched = {9, 10} if act in (reorder, swap_numbers) else {10}
    alone = checked(kept, original).findings
    assert alone
    assert {finding.seq for finding in alone} <= touched
    named = checked(kept, original, by="index").findings
    assert any(said in finding.what for finding in named)
    assert {(finding.seq, finding.id) for finding in named} <= {(seq, kept.ids[seq]) for seq in touched}
    assert not checked(kept, original, by="commits").good


def rewritten(kept: Kept, entries: list[Entry], signer: Signer | None) -> None:
    """Make the ledger anew as if these had been its entries, consistent in itself, and sign it."""
    shutil.rmtree(kept.ledger.folder.path)
    kept.ledger = Ledger(kept.ledger.folder)
    kept.ledger.append(entries, kept.ledger.head())
    advance(kept.ledger, len(entries), signer, "ledger.example.com")


@pytest.mark.parametrize("missing", [250, 599])
def test_a_ledger_that_was_rewritten_whole_is_found_by_what_left_it(kept, original, missing: int) -> None:
    entries = events()
    del entries[missing]
    rewritten(kept, entries, SIGNER)  # by somebody who has the key, even
    assert verify(kept.ledger, checkpoints=[("own", newest(kept.ledger))], keys=[SIGNER.public]).good
    (said,) = checked(kept, original, by="commits").findings[:1]
    assert (
        "the ledger is not the one that commit 1 knows" in said.what or "the last were removed" in said.what
    )
    if missing == 250:
        assert "among the entries 201 to 400" in said.what
    gone = kept.ids[missing + 1]
    if missing < SIZE - 1:
        assert any(gone in finding.what for finding in checked(kept, original, by="database").findings)
    assert gone in {finding.id for finding in checked(kept, original, by="index").findings}


def test_a_record_that_never_was_is_found_in_a_rewritten_ledger(kept, original) -> None:
    entries = events()
    entries[300] = entry(record(body={"n": "forged"}), 301)
    rewritten(kept, entries, SIGNER)
    assert any(finding.seq == 301 for finding in checked(kept, original, by="database").findings)
    assert not checked(kept, original, by="commits").good


def test_a_cut_end_and_a_lost_file_are_found(kept, original) -> None:
    kept.write(2, kept.lines(2)[:-1])
    assert any(
        item.what.startswith("commit 2 knows 600") for item in checked(kept, original, by="commits").findings
    )
    assert [(f.seq, f.id) for f in checked(kept, original, by="index").findings] == [(600, kept.ids[600])]
    kept.ledger.path("entries", 1).unlink()
    gone = {finding.seq for finding in checked(kept, original).findings if finding.what == "it was removed"}
    assert gone == set(range(257, 513))


def test_tiles_that_were_changed_or_lost_are_found(kept, original) -> None:
    kept.ledger.path("tiles/0", 1).unlink()
    assert "hashes of the entries 257 to 512 are gone" in checked(kept, original).findings[0].what
    tile = kept.ledger.path("tiles/0", 0)
    tile.write_bytes(b"\0" * 32 + tile.read_bytes()[32:])
    assert {(f.seq, f.what) for f in checked(kept, original).findings} >= {
        (1, "it was altered since it was written")
    }


def test_a_checkpoint_that_nobody_known_has_signed_is_found(kept) -> None:
    other = Signer(SIGNER.name, Ed25519PrivateKey.generate())
    note = Checkpoint.read(newest(kept.ledger)).note(other)
    (finding,) = verify(kept.ledger, checkpoints=[("commit x", note)], keys=[SIGNER.public]).findings
    assert finding.what == "no known key has signed the checkpoint of commit x"
    (finding,) = verify(kept.ledger, checkpoints=[("commit y", "nonsense")]).findings
    assert "commit y cannot be read" in finding.what


def test_records_that_came_forged_or_by_hand_are_doubts_and_no_findings(ledger: Ledger) -> None:
    forged = replace(entry(record(), 1), extra={**record().to_extra(), "id": "0" * 64})
    posted = replace(entry(record(), 2), extra={**record().to_extra(), "from_rest_api": True}, task=None)
    twice = [entry(record(body={"n": 1}), number) for number in (3, 4)]
    numbered = ledger.append([forged, posted, *twice], ledger.head())
    hashes = {item.seq: item for item in numbered}
    from airflow_pipeops.delivery.ledger.tree import leaf_hash

    found = verify(ledger, kept=lambda seq: ("", leaf_hash(hashes[seq].line())) if seq in hashes else None)
    assert found.good
    assert [(doubt.seq, doubt.what.partition(":")[0]) for doubt in found.doubts] == [
        (1, "it has been altered"),
        (2, "it was posted through Airflow's API"),
        (4, "it repeats entry 3"),
    ]
    assert [f.seq for f in verify(ledger).findings] == [1]  # without a witness nobody can tell who did it


@pytest.mark.parametrize("there", [10, 255, 256])
def test_what_is_appended_meanwhile_was_not_removed(ledger: Ledger, tmp_path: Path, there: int) -> None:
    index = Index.open(tmp_path / "index.db")
    new = [entry(record(body={"n": n}), n) for n in range(1, there + 301)]
    index.add(ledger.append(new[:there], ledger.head()))

    def kept(seq: int) -> tuple[str, bytes] | None:
        if seq == there + 1 and index.revision == there:
            index.add(ledger.append(new[there:], ledger.head()))
        return index.kept(seq)

    assert verify(ledger, kept=kept).findings == ()
    assert verify(ledger, kept=kept).size == there + 300
    path = ledger.path("entries", (there + 299) // 256)
    path.write_bytes(b"".join(line + b"\n" for line in path.read_bytes().splitlines()[:-1]))
    (finding,) = verify(ledger, kept=kept).findings
    assert (finding.seq, finding.what) == (there + 300, "it was removed")
    index.close()


def test_nothing_is_signed_that_contradicts_what_was_signed(kept) -> None:
    entries = events()
    entries[300] = entry(record(body={"n": "forged"}), 301)
    note = newest(kept.ledger)
    rewritten(kept, entries, None)
    (kept.ledger.folder / "checkpoint").write_text(note)
    kept.ledger.append([entry(record(body={"n": "new"}), 601)], kept.ledger.head())
    with pytest.raises(InvalidInput, match="not the one of its checkpoint, of 600 entries"):
        advance(kept.ledger, 601, SIGNER, "")
    assert newest(kept.ledger) == note


def test_a_checkpoint_survives_as_a_trailer(kept) -> None:
    note = newest(kept.ledger)
    line = trailer(note)
    assert "\n" not in line
    assert of_trailer(line) == note
    unsigned = Checkpoint.read(note).note(None)
    assert of_trailer(trailer(unsigned)) == unsigned
    for bad in ("", "a b", "a 1 xyz", "a 01 " + line.split()[2]):
        with pytest.raises(InvalidInput):
            of_trailer(bad)


@pytest.mark.parametrize("seq", [1, 256, 257, 600])
def test_a_proof_proves_one_entry_without_the_ledger(kept, seq: int) -> None:
    line = next(kept.ledger.read(seq - 1))
    text = proof(kept.ledger, seq, newest(kept.ledger))
    assert text.startswith(f"c2sp.org/tlog-proof@v1\nindex {seq - 1}\n")
    assert proved(text, line, [SIGNER.public]) == ""
    assert "not the one" in proved(text, line.replace(b"wait", b"mine"), [SIGNER.public])
    assert "not the one" in proved(text.replace(f"index {seq - 1}", f"index {seq}"), line, [SIGNER.public])
    stranger = Signer(SIGNER.name, Ed25519PrivateKey.generate())
    assert "no known key" in proved(text, line, [stranger.public])
    for broken in ("", "x\n\ny", text.replace("index", "place"), json.dumps(text)):
        assert proved(broken, line, [SIGNER.public])
