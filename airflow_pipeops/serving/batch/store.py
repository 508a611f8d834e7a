"""Where scores are kept: data first, the manifest last and once, and what readers see as a history that only grows.

::

    <root>/scores/<name>/model=<digest>/partition=<partition>/key=<key>/part-....parquet, _manifest.json
                                                                           _suite-<digest>.json  of a later suite
    <root>/scores/<name>/model=<digest>/_first.json          histograms of the version's first partition
    <root>/scores/<name>/current/partition=<partition>/00000001.json, 00000002.json ...

The commit point is the creation of a file where there is none, which folders and object stores do in one step. It makes a
manifest, and each entry of the history, whose number is the one that follows the entry that its writer has seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_pipeops.base.files import create
from airflow_pipeops.exceptions import Conflict, InvalidInput
from airflow_pipeops.serving.batch.manifest import Current, Judgement, Manifest, Part, folder_of, segment

MANIFEST = "_manifest.json"
_FIRST = "_first.json"


class ScoreStore:
    """The scores of one kind.

    :param root: path of a folder or an object-store prefix.
    :param name: of the scores, usually that of the model.
    """

    def __init__(self, root: Any, name: str) -> None:
        self.root = root / "scores" / segment(name)

    def folder(self, key: str, sha256: str, partition: str) -> Any:
        """Return the folder of the scores of a key."""
        return self.root / folder_of(key, sha256, partition)

    def manifest(self, key: str, sha256: str, partition: str) -> Manifest | None:
        """Read the manifest of a key.

        :param key: identity of the scores.
        :param sha256: of the model.
        :param partition: that was scored.
        :return: the manifest; ``None`` where nothing is in place.
        :raises Conflict: if it is of another key, which begins alike.
        """
        path = self.folder(key, sha256, partition) / MANIFEST
        if not path.exists():
            return None
        found = Manifest.from_bytes(path.read_bytes(), str(path))
        if found.key != key:
            raise Conflict(f"{path} is of the scores {found.key}, not {key}", remedy="Move it away.")
        return found

    def put(self, manifest: Manifest) -> bool:
        """Put scores in place whose files are there.

        :param manifest: of them.
        :return: whether it was this one; another attempt may have been faster.
        """
        folder = self.folder(manifest.key, manifest.model.sha256, manifest.partition)
        return create(folder / MANIFEST, manifest.to_bytes())

    def judgement(self, manifest: Manifest, suite: str) -> Judgement | None:
        """Read what a suite said of the rows after they were scored.

        :param manifest: of the scores.
        :param suite: its digest.
        :return: what it said; ``None`` where it was not asked, or they did not pass.
        """
        path = self._judgement(manifest, suite)
        return Judgement.from_bytes(path.read_bytes(), str(path)) if path.exists() else None

    def judged(self, manifest: Manifest, found: Judgement) -> None:
        """Keep that the rows of scores pass a suite that has come since."""
        create(self._judgement(manifest, found.suite), found.to_bytes())

    def _judgement(self, manifest: Manifest, suite: str) -> Any:
        folder = self.folder(manifest.key, manifest.model.sha256, manifest.partition)
        return folder / f"_suite-{suite[:16]}.json"

    def sweep(self, manifest: Manifest) -> int:
        """Take away what attempts have left beside scores that are in place; return how many files that were."""
        folder = self.folder(manifest.key, manifest.model.sha256, manifest.partition)
        kept = {MANIFEST, *(part.name for part in manifest.parts)}
        count = 0
        for path in list(folder.iterdir()):
            if path.name not in kept and path.name.endswith(".parquet"):
                path.unlink(missing_ok=True)
                count += 1
        return count

    def verify(self, manifest: Manifest) -> None:
        """Check that the files of a manifest are what it says.

        :raises Conflict: if one is missing or was altered: nothing is written over it.
        """
        folder = self.folder(manifest.key, manifest.model.sha256, manifest.partition)
        for part in manifest.parts:
            path = folder / part.name
            found = _sha256(path) if path.exists() else ""
            if found != part.sha256:
                what = "is missing" if not found else f"hashes to {found[:12]}, not {part.sha256[:12]}"
                failure = Conflict(
                    f"the scores of partition {manifest.partition} are not what their manifest says: {path} {what}",
                    remedy="Find out who has changed it; then move the folder away, and score the partition again.",
                )
                failure.retryable = False  # nobody puts it back by itself
                raise failure

    def current(self, partition: str) -> Current | None:
        """Return what readers see of a partition; ``None`` where they see nothing."""
        history = self.history(partition)
        return history[-1] if history else None

    def history(self, partition: str) -> list[Current]:
        """Return what readers have seen of a partition, in order."""
        folder = self.root / "current" / f"partition={segment(partition)}"
        if hasattr(folder, "fs"):  # an object store may have listed it before
            folder.fs.invalidate_cache()
        if not folder.exists():
            return []
        names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".json"))
        return [
            Current.from_bytes((folder / name).read_bytes(), str(folder / name))
            for name in names
            if not name.startswith(".")
        ]

    def show(self, entry: Current, partition: str) -> bool:
        """Let readers see other scores.

        :param entry: of the history, numbered after the one that was seen.
        :param partition: that was scored.
        :return: whether nobody else was faster.
        """
        folder = self.root / "current" / f"partition={segment(partition)}"
        return create(folder / f"{entry.number:08}.json", entry.to_bytes())

    def first(self, manifest: Manifest) -> Manifest:
        """Return the manifest of the version's first partition, which this one becomes where there is none."""
        path = self.root / f"model={manifest.model.sha256[:12]}" / _FIRST
        if not path.exists():
            create(path, manifest.to_bytes())
        return Manifest.from_bytes(path.read_bytes(), str(path))

    def first_of(self, sha256: str) -> Manifest | None:
        """Return the manifest of a version's first partition; ``None`` where it has scored none."""
        path = self.root / f"model={sha256[:12]}" / _FIRST
        return Manifest.from_bytes(path.read_bytes(), str(path)) if path.exists() else None

    def files(self, entry: Current, partition: str) -> tuple[Manifest, list[Any]]:
        """Return the manifest and the files of what readers see.

        :param entry: of the history.
        :param partition: that was scored.
        :return: both.
        :raises InvalidInput: if the manifest is gone.
        """
        found = self.manifest(entry.key, entry.model.sha256, partition)
        if found is None:
            raise InvalidInput(
                f"{entry.manifest} is gone, which is what readers of {partition} see",
                field="partition",
                value=partition,
                remedy="Score the partition again.",
            )
        folder = self.folder(entry.key, entry.model.sha256, partition)
        return found, [folder / part.name for part in found.parts]


def parts_of(found: Iterable[Any]) -> tuple[Part, ...]:
    """Return the files that :func:`~airflow_pipeops.serving.batch.scan.read_back` has read."""
    return tuple(Part(one["name"], one["rows"], one["sha256"]) for one in found)


def _sha256(path: Any) -> str:
    import hashlib

    running = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            running.update(block)
    return running.hexdigest()
