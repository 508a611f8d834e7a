"""The files of the ledger: lines that are never changed, in a folder or an object store.

``entries/000/000.jsonl`` holds the entries 1 to 256, a line each, ``entries/000/001.jsonl`` the next 256, and so on. Beside
each file that is full, ``tiles/0`` keeps the hashes of its lines, and ``tiles/1`` one hash for each such file: of these the
root of the tree is made without reading the entries. No object store appends, so the last file is written anew, and whole,
until it is full. Where that is cut short, the file is as it was before, and what was meant to be appended is appended later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_pipeops.base.files import write_whole
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.tree import inclusion, leaf_hash, root
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: Entries of a file, and hashes of a tile.
WIDTH = 256
_HASH = 32


@dataclass(frozen=True)
class Head:
    """Where the ledger ends.

    :param file: number of the file that is written next, from 0.
    :param lines: that are in it.
    """

    file: int
    lines: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.file * WIDTH + len(self.lines)


class Ledger:
    """The files below a folder or an object-store prefix. One process at a time appends.

    :param folder: where they are.
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        self.folder = folder
        self._full = 0  # so many files are known to be there

    @classmethod
    def open(cls, uri: str) -> Ledger:
        """Open the ledger at a URI, whether or not there is one yet.

        :param uri: of the folder.
        :return: the ledger.
        """
        from airflow.sdk import ObjectStoragePath

        return cls(ObjectStoragePath(uri))

    def path(self, kind: str, number: int) -> ObjectStoragePath:
        """Name a file.

        :param kind: ``entries``, ``tiles/0`` or ``tiles/1``.
        :param number: of the file, from 0.
        :return: its path.
        """
        ending = ".jsonl" if kind == "entries" else ""
        return self.folder / kind / f"{number // 1000:03d}" / f"{number % 1000:03d}{ending}"

    def lines(self, number: int) -> list[bytes]:
        """Read a file of entries.

        :param number: of the file, from 0.
        :return: its lines, without their ends; none where there is no such file.
        """
        try:
            content: bytes = self.path("entries", number).read_bytes()
        except FileNotFoundError:
            return []
        return content.splitlines()

    def head(self) -> Head:
        """Find the end.

        :return: where to go on.
        :raises InvalidInput: if the end is damaged.
        """
        last = self._last()
        lines = self.lines(last) if last >= 0 else []
        if lines and Entry.read(lines[-1]).seq != last * WIDTH + len(lines):
            raise InvalidInput(
                f"{self.path('entries', last)} does not end with entry {last * WIDTH + len(lines)}",
                field="ledger",
                remedy="Nothing is appended to a damaged ledger: run airflow pipeops verify.",
            )
        if len(lines) == WIDTH:
            return Head(last + 1, ())
        return Head(max(last, 0), tuple(lines))

    def read(self, after: int = 0) -> Iterator[bytes]:
        """Read the lines, in their order.

        :param after: the number of the entry after which to begin.
        :return: the lines, without their ends.
        """
        number, skipped = divmod(after, WIDTH)
        while lines := self.lines(number):
            yield from lines[skipped:]
            number, skipped = number + 1, 0

    def append(self, entries: Sequence[Entry], head: Head) -> list[Entry]:
        """Append entries; the caller lets nobody else append meanwhile.

        :param entries: without numbers.
        :param head: as :meth:`head` found it since nobody else appends.
        :return: the entries with their numbers.
        """
        number, lines, size = head.file, list(head.lines), head.size
        if number:
            self._seal(number - 1)  # where the end of it was cut short
        numbered = []
        for entry in entries:
            size += 1
            numbered.append(entry.numbered(size))
            lines.append(numbered[-1].line())
            if len(lines) == WIDTH:
                self._write(number, lines)
                self._seal(number, lines)
                number, lines = number + 1, []
        if lines:
            self._write(number, lines)
        return numbered

    def parts(self, size: int) -> list[bytes]:
        """Return what the root over the first entries is made of: the hash of each full file, and of the rest.

        :param size: so many entries.
        :return: the hashes.
        """
        full, rest = divmod(size, WIDTH)
        found = [part for tile in range(-(-full // WIDTH)) for part in self.tile(1, tile)][:full]
        found += [
            root([leaf_hash(line) for line in self.lines(number)]) for number in range(len(found), full)
        ]
        if rest:
            found.append(root([leaf_hash(line) for line in self.lines(full)[:rest]]))
        return found

    def proof(self, seq: int, size: int) -> list[bytes]:
        """Prove that an entry is among the first.

        :param seq: number of the entry, from 1.
        :param size: so many entries.
        :return: the hashes of RFC 6962, the nearest first.
        """
        part, within = divmod(seq - 1, WIDTH)
        leaves = [leaf_hash(line) for line in self.lines(part)[: size - part * WIDTH]]
        return inclusion(within, leaves) + inclusion(part, self.parts(size))

    def tile(self, level: int, number: int) -> list[bytes]:
        """Read a tile.

        :param level: 0 for hashes of lines, 1 for those of files.
        :param number: of the tile, from 0.
        :return: its hashes; none where there is no such tile.
        """
        try:
            content: bytes = self.path(f"tiles/{level}", number).read_bytes()
        except FileNotFoundError:
            return []
        return [content[at : at + _HASH] for at in range(0, len(content), _HASH)]

    def _write(self, number: int, lines: Sequence[bytes]) -> None:
        write_whole(self.path("entries", number), b"".join(line + b"\n" for line in lines))

    def _seal(self, number: int, lines: Sequence[bytes] = ()) -> None:
        """Write the tiles of a full file, unless they are there."""
        tile, place = divmod(number, WIDTH)
        above = self.tile(1, tile)
        if len(above) > place:
            return
        leaves = [leaf_hash(line) for line in lines or self.lines(number)]
        write_whole(self.path("tiles/0", number), b"".join(leaves))
        # Only the last can be missing: a file begins when the one before has its tiles.
        write_whole(self.path("tiles/1", tile), b"".join([*above[:place], root(leaves)]))

    def _last(self) -> int:
        """Find the last file there is, by few questions: a store that lists a thousand names at a time is not asked to."""
        there, step = self._full - 1, 1
        while self.path("entries", there + step).exists():
            there, step = there + step, step * 2
        while step > 1:
            step //= 2
            if self.path("entries", there + step).exists():
                there += step
        self._full = max(there, 0)
        return there
