"""Verify an export of the ledger of airflow-pipeops.

Usage: python verify.py [PUBLIC_KEY], in the folder of the unpacked export. It needs Python 3.10 and cryptography, nothing
else, and asks nobody. Take the public key from somewhere else than from the export: without one, that of the export is used,
which shows that nothing was changed since it was signed, and not by whom.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256


def leaf(line: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(b"\0" + line).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash above two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(hashes: list[bytes]) -> bytes:
    """Return the root of a tree."""
    level = list(hashes) or [hashlib.sha256(b"").digest()]
    while len(level) > 1:
        pairs = [node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


class Key:
    """The public key, as name+hint+key.

    :param text: the key.
    """

    def __init__(self, text: str) -> None:
        self.name, self.hint, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded)
        expected = hashlib.sha256(self.name.encode() + b"\n" + raw).hexdigest()[:8]
        if len(raw) != 33 or self.hint != expected:
            raise ValueError("the public key cannot be read")
        self.key = Ed25519PublicKey.from_public_bytes(raw[1:])

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether it has signed a message."""
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def note(self, note: str) -> tuple[int, bytes]:
        """Return the size and the root of a signed checkpoint."""
        text, _, signatures = note.rpartition("\n\n")
        for line in signatures.splitlines():
            dash, name, encoded = [*line.split(" "), "", ""][:3]
            raw = base64.b64decode(encoded)
            ours = dash == "—" and name == self.name and raw[:4].hex() == self.hint
            if ours and self.signed(raw[4:], (text + "\n").encode()):
                _, size, encoded_root = text.split("\n")[:3]
                return int(size), base64.b64decode(encoded_root)
        raise ValueError("a checkpoint is not signed by this key")

    def envelope(self, envelope: dict[str, Any]) -> dict[str, Any]:
        """Return the statement of a signed envelope."""
        payload = base64.b64decode(envelope["payload"])
        kind = envelope["payloadType"].encode()
        message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        if not any(self.signed(base64.b64decode(one["sig"]), message) for one in envelope["signatures"]):
            raise ValueError("a statement is not signed by this key")
        stated: dict[str, Any] = json.loads(payload)
        return stated


def proved(text: str, line: bytes, key: Key) -> None:
    """Follow a proof from an entry to its signed checkpoint."""
    head, _, note = text.partition("\n\n")
    _, index, *hashes = head.split("\n")
    size, expected = key.note(note)
    at, last, found = int(index.removeprefix("index ")), size - 1, leaf(line)
    for beside in (base64.b64decode(one) for one in hashes):
        if at % 2 or at == last:
            found = node(beside, found)
            while not at % 2 and at:
                at, last = at // 2, last // 2
        else:
            found = node(found, beside)
        at, last = at // 2, last // 2
    if found != expected:
        raise ValueError("a proof does not lead to its checkpoint")


def cell(value: Any) -> str:
    """Return the id of a record as index.csv has it: short, and no formula of a spreadsheet."""
    said = value[:100].encode("utf-8", "replace").decode() if isinstance(value, str) else ""
    return f"'{said}" if said.startswith(("=", "+", "-", "@", "\t", "\r")) else said


def tree(folder: Path, lines: list[bytes], first: int, key: Key) -> int:
    """Hold the exported lines, and what stands beside them, against the signed checkpoint."""
    size, expected = key.note((folder / "checkpoint").read_text(encoding="utf-8"))
    beside = json.loads((folder / "tree.json").read_text(encoding="utf-8"))
    parts = [bytes.fromhex(part) for part in beside["parts"]]
    before, after = ([bytes.fromhex(one) for one in beside[side]] for side in ("before", "after"))
    leaves = before + [leaf(line) for line in lines] + after
    start = (first - 1) // WIDTH
    if len(before) != (first - 1) % WIDTH:
        raise ValueError("the first entry is not where it should be")
    for number in range(0, len(leaves), WIDTH):
        if parts[start + number // WIDTH] != root(leaves[number : number + WIDTH]):
            raise ValueError(f"the entries from {(start * WIDTH) + number + 1} on were changed")
    if root(parts) != expected:
        raise ValueError("the tree is not the one of the signed checkpoint")
    return size


def main() -> int:
    """Verify, and say what was found."""
    folder = Path(__file__).parent
    given = sys.argv[1] if len(sys.argv) > 1 else (folder / "public-key").read_text(encoding="utf-8")
    key = Key(given)
    lines = (folder / "entries.jsonl").read_bytes().splitlines()
    entries = [json.loads(line) for line in lines]
    numbers = [entry["seq"] for entry in entries]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise ValueError("entries are missing between the first and the last")
    size = tree(folder, lines, numbers[0], key)
    ids = {entry["seq"]: cell(entry["extra"].get("id")) for entry in entries}
    statements = sorted((folder / "statements").glob("*.json"))
    for path in statements:
        stated = key.envelope(json.loads(path.read_text(encoding="utf-8")))
        number = int(path.name.split("-")[0])
        if (
            stated["predicate"].get("pipeopsRecord", stated["predicate"])
            != entries[number - numbers[0]]["extra"]
        ):
            raise ValueError(f"{path.name} is not about entry {number}")
    proofs = sorted((folder / "proofs").glob("*.tlog-proof"))
    for path in proofs:
        proved(path.read_text(encoding="utf-8"), lines[int(path.name.split(".")[0]) - numbers[0]], key)
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if ids.get(int(row["seq"])) != row["id"]:
                raise ValueError(f"record {row['id']} of index.csv is not among the entries")
    print(f"{len(lines)} entries, {numbers[0]} to {numbers[-1]} of {size}, {len(statements)} statements and")
    print(f"{len(proofs)} proofs are as they were signed by {key.name}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, KeyError, IndexError, OSError) as error:
        print(f"NOT AS IT WAS SIGNED: {error}")
        sys.exit(1)
