"""Is the ledger what it was? What was altered, removed, reordered, forged or repeated, each by its name.

The files are held against themselves (numbers, ids, tiles), and against what others keep: the index, Airflow's database as
far back as it goes, and checkpoints, of which those that left the system show a ledger that was rewritten whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.ledger.checkpoints import Checkpoint
from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.entries import Entry, judged
from airflow_pipeops.delivery.ledger.files import WIDTH, Ledger
from airflow_pipeops.delivery.ledger.signatures import PublicKey, signed_by
from airflow_pipeops.delivery.ledger.tree import leaf_hash, root
from airflow_pipeops.exceptions import InvalidInput

#: An entry as somebody else keeps it: the id of its record, and the hash of its line.
Kept = tuple[str, bytes]


@dataclass(frozen=True)
class Finding(JsonForm):
    """Something that is not as it was.

    :param seq: number of the entry; 0 where it is about more than one.
    :param id: of its record, where that is known.
    :param what: happened to it.
    """

    seq: int
    id: str
    what: str

    def __str__(self) -> str:
        named = f" (record {self.id})" if self.id else ""
        return f"entry {self.seq}{named}: {self.what}" if self.seq else self.what


@dataclass(frozen=True)
class Verified(JsonForm):
    """What was found.

    :param size: number of entries.
    :param root: of the tree over them, in hex.
    :param findings: what is not as it was; none is good.
    :param doubts: records that are kept, and not believed, as they came: posted by hand, forged by a task, repeated.
    :param agreeing: checkpoints that the ledger agrees with.
    """

    size: int
    root: str
    findings: tuple[Finding, ...]
    doubts: tuple[Finding, ...]
    agreeing: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    ledger: Ledger,
    *,
    checkpoints: Iterable[tuple[str, str]] = (),
    keys: Sequence[PublicKey] = (),
    kept: Callable[[int], Kept | None] | None = None,
    events: Events | None = None,
    accepted: frozenset[str] = frozenset(),
) -> Verified:
    """Verify a ledger.

    :param ledger: the files.
    :param checkpoints: where each was found, and the note.
    :param keys: that sign checkpoints; without any, no signature is asked for.
    :param kept: tells what the index keeps of an entry, by its number.
    :param events: Airflow's database.
    :param accepted: assets on which events may be posted by hand.
    :return: what was found.
    """
    work = _Work(ledger, kept, events, accepted, _files(ledger))
    for number in range(work.files):
        work.file(number)
    work.end()
    agreeing = work.against(checkpoints, keys)
    whole = root(work.roots)
    return Verified(work.size, whole.hex(), tuple(work.findings), tuple(work.doubts), tuple(agreeing))


@dataclass
class _Work:
    """What is known while the files are read, one after another.

    :param ledger: the files.
    :param kept: tells what the index keeps of an entry, by its number.
    :param events: Airflow's database.
    :param accepted: assets on which events may be posted by hand.
    :param files: number of files.
    :param findings: what is not as it was.
    :param doubts: what is not believed.
    :param leaves: hashes of the lines, by file.
    :param roots: of the tree over the lines, by file.
    :param last: highest number of an entry.
    :param seen_events: number of the entry of an event.
    :param seen_records: number of the first entry of a record.
    """

    ledger: Ledger
    kept: Callable[[int], Kept | None] | None
    events: Events | None
    accepted: frozenset[str]
    files: int
    findings: list[Finding] = field(default_factory=list)
    doubts: list[Finding] = field(default_factory=list)
    leaves: list[list[bytes]] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    last: int = 0
    seen_events: dict[int, int] = field(default_factory=dict)
    seen_records: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.leaves))

    def file(self, number: int) -> None:
        """Look at one file of entries."""
        first = number * WIDTH + 1
        tile = self.ledger.tile(0, number)  # before the lines: where it is there, they are all there
        lines = self.ledger.lines(number)
        self.leaves.append([leaf_hash(line) for line in lines])
        self.roots.append(root(self.leaves[-1]))
        entries = [self._entry(line, first + place) for place, line in enumerate(lines)]
        self._places(
            number, [entry.seq if entry else first + place for place, entry in enumerate(entries)], bool(tile)
        )
        for entry, leaf in zip(entries, self.leaves[-1], strict=True):
            if entry is not None:
                self._one(
                    entry, leaf, tile[entry.seq - first : entry.seq - first + 1] if entry.seq >= first else []
                )
        self._tiles(number, tile)
        self._database([entry for entry in entries if entry])

    def _entry(self, line: bytes, place: int) -> Entry | None:
        try:
            return Entry.read(line)
        except InvalidInput:
            self._found(place, "its line cannot be read")
            return None

    def _places(self, number: int, numbers: list[int], full: bool) -> None:
        first = number * WIDTH + 1
        after = first + WIDTH if full or number < self.files - 1 else max(numbers, default=first - 1) + 1
        there = set(numbers)
        for seq in range(first, after):
            if seq not in there:
                self._found(seq, "it was removed")
        self.last = max(self.last, *(seq for seq in numbers if seq < first + WIDTH), 0)
        highest = 0
        counted: set[int] = set()
        for seq in numbers:
            if seq in counted:
                self._found(seq, "it stands there twice")
            elif not first <= seq < first + WIDTH or seq < highest:
                self._found(seq, "it stands at another place than its own")
            counted.add(seq)
            highest = max(highest, seq)

    def _one(self, entry: Entry, leaf: bytes, tile: list[bytes]) -> None:
        found = judged(entry, self.accepted)
        there = self.kept(entry.seq) if self.kept else None
        known = there[1] if there else (tile[0] if tile else None)
        altered = (tile and tile[0] != leaf) or (there and there[1] != leaf)
        if altered:
            self._found(entry.seq, "it was altered since it was written", found.id)
        elif known is None and found.problem.startswith("it has been altered"):
            self._found(entry.seq, found.problem, found.id)
        elif found.problem:
            self.doubts.append(Finding(entry.seq, found.id, found.problem))
        if (before := self.seen_events.setdefault(entry.event, entry.seq)) != entry.seq:
            self._found(entry.seq, f"it repeats the event of entry {before}", found.id)
        elif found.problem or not found.id:
            return
        elif (before := self.seen_records.setdefault(found.id, entry.seq)) != entry.seq:
            self.doubts.append(Finding(entry.seq, found.id, f"it repeats entry {before}"))

    def _tiles(self, number: int, tile: list[bytes]) -> None:
        full = len(self.leaves[-1]) == WIDTH
        above = self.ledger.tile(1, number // WIDTH)[number % WIDTH : number % WIDTH + 1]
        begun = number < self.files - 1
        if full and begun and not (tile and above):
            self._found(
                0, f"the hashes of the entries {number * WIDTH + 1} to {(number + 1) * WIDTH} are gone"
            )
        elif tile and above and root(tile) != above[0]:
            self._found(
                0, f"the hashes of the entries {number * WIDTH + 1} to {(number + 1) * WIDTH} were changed"
            )

    def _database(self, entries: list[Entry]) -> None:
        if self.events is None:
            return
        there = {entry.event: entry for entry in self.events.these([entry.event for entry in entries])}
        for entry in entries:
            other = there.get(entry.event)
            if other is None:  # cleaned, perhaps
                continue
            same = replace(other.numbered(entry.seq), name=entry.name, uri=entry.uri)  # an asset may be gone
            if same.line() != entry.line():
                self._found(entry.seq, "Airflow's database has it otherwise", judged(same).id)

    def end(self) -> None:
        """Look for what is missing at the end, or altogether."""
        if self.kept is not None:
            seq = max(self.size, self.last) + 1
            come = self.ledger.read(seq - 1)  # since the files were read
            while there := self.kept(seq):
                if leaf_hash(next(come, b"")) != there[1]:
                    self.findings.append(Finding(seq, there[0], "it was removed"))
                seq += 1
        if self.events is None:
            return
        after, highest = 0, max(self.seen_events, default=0)
        while found := self.events.after(after, 2000):
            for entry in found:
                if entry.belongs and entry.event < highest and entry.event not in self.seen_events:
                    said = f"event {entry.event} of Airflow's database was removed from the ledger, or never got there"
                    self.findings.append(Finding(0, judged(entry).id, f"record {judged(entry).id}: {said}"))
            after = found[-1].event

    def against(self, checkpoints: Iterable[tuple[str, str]], keys: Sequence[PublicKey]) -> list[str]:
        """Hold the ledger against checkpoints, the oldest first."""
        agreeing: list[str] = []
        good = 0
        read: list[tuple[Checkpoint, str]] = []
        for label, note in checkpoints:
            try:
                read.append((Checkpoint.read(note), label))
            except InvalidInput:
                self._found(0, f"the checkpoint of {label} cannot be read")
                continue
            if keys and not signed_by(note, keys)[1]:
                self._found(0, f"no known key has signed the checkpoint of {label}")
        for checkpoint, label in sorted(read, key=lambda item: item[0].size):
            if checkpoint.size > self.size:
                self._found(
                    0,
                    f"{label} knows {checkpoint.size} entries, and there are {self.size}: the last were removed",
                )
            elif self._root(checkpoint.size) != checkpoint.root:
                between = f"among the entries {good + 1} to {checkpoint.size}"
                self._found(
                    0, f"the ledger is not the one that {label} knows: something was changed {between}"
                )
            else:
                good = checkpoint.size
                agreeing.append(label)
        return agreeing

    def _root(self, size: int) -> bytes:
        full, rest = divmod(size, WIDTH)
        parts = self.roots[:full]
        return root([*parts, root(self.leaves[full][:rest])] if rest else parts)

    def _found(self, seq: int, what: str, record: str = "") -> None:
        there = self.kept(seq) if self.kept and seq else None
        self.findings.append(Finding(seq, there[0] if there else record, what))


def _files(ledger: Ledger) -> int:
    """Return one more than the number of the last file, whatever is missing between."""
    last = -1
    folder = ledger.folder / "entries"
    for thousand in folder.iterdir() if folder.exists() else ():
        for file in thousand.iterdir():
            if file.name.endswith(".jsonl") and not file.name.startswith("."):
                last = max(last, int(thousand.name) * 1000 + int(file.name.removesuffix(".jsonl")))
    return last + 1
