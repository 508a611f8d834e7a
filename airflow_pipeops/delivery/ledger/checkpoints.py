"""Checkpoints: how long the ledger is, and the root of its tree, in the form of C2SP's tlog-checkpoint.

Whoever keeps one can tell later whether the ledger still begins with the same entries. They count since they leave the
system: each commit of desired state carries the newest as a trailer, and a proof file carries the one that it leads to.
"""

from __future__ import annotations

import logging
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_pipeops.base.files import write_whole
from airflow_pipeops.delivery.ledger.signatures import PublicKey, Signer, signed_by
from airflow_pipeops.delivery.ledger.tree import included, leaf_hash, root
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.delivery.ledger.files import Ledger

log = logging.getLogger(__name__)

#: Of the commits of desired state.
TRAILER = "Pipeops-Checkpoint"
_PROOF = "c2sp.org/tlog-proof@v1"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """A state of the ledger.

    :param origin: name of the ledger.
    :param size: number of its entries.
    :param root: of the tree over them.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    def note(self, signer: Signer | None) -> str:
        """Return it as a note.

        :param signer: without one it is not signed.
        :return: the text, and a signature.
        """
        return signer.note(self.text()) if signer else self.text()

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """Read a checkpoint, without its signatures or with them.

        :param text: the checkpoint.
        :return: the checkpoint.
        :raises InvalidInput: if it is none.
        """
        origin, size, encoded, *_ = [*text.split("\n"), "", "", ""]
        try:
            found = b64decode(encoded, validate=True)
        except ValueError:
            found = b""
        if not origin or not _SIZE.fullmatch(size) or len(found) != 32:
            raise InvalidInput("a checkpoint cannot be read", field="checkpoint", value=text[:200])
        return cls(origin, int(size), found)


def trailer(note: str) -> str:
    """Write a note as the value of a trailer, in one line.

    :param note: as :meth:`Checkpoint.note` returned it.
    :return: origin, size and root; and, where it is signed, name and signature.
    """
    return " ".join(word for word in note.split() if word != "—")


def of_trailer(value: str) -> str:
    """Write the value of a trailer as a note again.

    :param value: as :func:`trailer` returned it.
    :return: the note.
    :raises InvalidInput: if it is none.
    """
    words = value.split()
    signature = words[3:]
    note = "".join(f"{word}\n" for word in words[:3])
    Checkpoint.read(note)
    return note + (f"\n— {signature[0]} {signature[1]}\n" if len(signature) == 2 else "")


def newest(ledger: Ledger) -> str:
    """Return the newest checkpoint of a ledger, as a note; empty where there is none."""
    try:
        return str((ledger.folder / "checkpoint").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""


def to_commit() -> dict[str, str]:
    """Return the newest checkpoint as a trailer; where the ledger cannot be read, none, and say so: it stops no commit."""
    from airflow_pipeops.base.configuration import ledger_path
    from airflow_pipeops.delivery.ledger.files import Ledger

    try:
        if note := newest(Ledger.open(ledger_path())):
            return {TRAILER: trailer(note)}
        log.warning("The commit carries no checkpoint: this worker sees none; see [pipeops] ledger_path")
    except Exception as error:
        log.warning("The commit carries no checkpoint: the ledger cannot be read: %s", error)
    return {}


def advance(ledger: Ledger, size: int, signer: Signer | None, origin: str) -> str:
    """Write the checkpoint of a size, unless it is there; one that does not go on from the last is never signed.

    :param size: number of entries.
    :param signer: the key; without one the checkpoint is not signed.
    :param origin: name of the ledger, where it has none yet.
    :return: the note.
    :raises InvalidInput: if the ledger no longer begins as it did at the last checkpoint.
    """
    note = newest(ledger)
    if note:
        last = Checkpoint.read(note)
        if last.size > size or root(ledger.parts(last.size)) != last.root:
            raise InvalidInput(
                f"the ledger is not the one of its checkpoint, of {last.size} entries",
                field="ledger",
                remedy="Nothing is signed that contradicts what was signed: run airflow pipeops verify.",
            )
        origin = last.origin
        signed = signed_by(note, [signer.public] if signer else [])[1]
        if last.size == size and (signed or not signer):
            return note
    note = Checkpoint(origin, size, root(ledger.parts(size))).note(signer)
    write_whole(ledger.folder / "checkpoint", note.encode())
    return note


def proof(ledger: Ledger, seq: int, note: str) -> str:
    """Write the proof that an entry is in the ledger: one file, which is checked without the ledger.

    :param seq: number of the entry.
    :param note: checkpoint that it leads to.
    :return: the proof, in the form of C2SP's tlog-proof.
    """
    hashes = [b64encode(one).decode() for one in ledger.proof(seq, Checkpoint.read(note).size)]
    return "\n".join([_PROOF, f"index {seq - 1}", *hashes, "", note])


def proved(text: str, line: bytes, keys: Sequence[PublicKey]) -> str:
    """Check a proof.

    :param text: as :func:`proof` returned it.
    :param line: of the entry.
    :param keys: one of which must have signed the checkpoint.
    :return: why it proves nothing; empty if it does.
    """
    head, _, note = text.partition("\n\n")
    form, index, *hashes = [*head.split("\n"), ""]
    number = index.removeprefix("index ")
    try:
        checkpoint = Checkpoint.read(note)
        beside = [b64decode(one, validate=True) for one in hashes if one]
    except (InvalidInput, ValueError):
        return "it cannot be read"
    if form != _PROOF or not _SIZE.fullmatch(number):
        return "it cannot be read"
    if not signed_by(note, keys)[1]:
        return "no known key has signed its checkpoint"
    if included(leaf_hash(line), int(number), checkpoint.size, beside) != checkpoint.root:
        return "the entry is not the one that it is about"
    return ""
