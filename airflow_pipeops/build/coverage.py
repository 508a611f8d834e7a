"""Read a coverage report in the form of Cobertura, as coverage.py and most others write it. Pure.

The file was written by the code under test: no document type with entities, a size cap, and the lines are counted
anew, since the totals that a file states about itself may lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.parsers import expat

from airflow_pipeops.exceptions import BuildFailed

#: A larger report is refused, in bytes.
MAX_BYTES = 64 * 1024 * 1024


class _Reader:
    """Collects the lines of each file: covered if any class that holds the line says so."""

    def __init__(self) -> None:
        self.root = ""
        self.lines: dict[tuple[str, str], bool] = {}
        self._file = ""
        self._in_method = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.root = self.root or name
        if name == "class":
            self._file = attributes.get("filename") or attributes.get("name") or ""
        elif name == "method":
            self._in_method += 1
        elif name == "line" and not self._in_method:  # a method's lines are the class's, too
            key = (self._file, attributes.get("number", ""))
            hits = attributes.get("hits", "0")
            self.lines[key] = self.lines.get(key, False) or hits.strip().lstrip("0") != ""

    def end(self, name: str) -> None:
        if name == "method":
            self._in_method -= 1


@dataclass(frozen=True)
class Covered:
    """Which lines were run.

    :param lines: (file, number of the line) -> whether it was run; at least one.
    """

    lines: Mapping[tuple[str, str], bool]

    @property
    def percent(self) -> float:
        """How many of them were run, in percent."""
        return 100.0 * sum(self.lines.values()) / len(self.lines)


def joined(reports: Iterable[bytes]) -> Covered:
    """Join reports of parts of the tests: a line was run if any of them has run it.

    :param reports: bytes of XML files, at least one; each is read when its turn comes.
    :return: the lines of all.
    :raises BuildFailed: as :func:`read`.
    """
    lines: dict[tuple[str, str], bool] = {}
    for content in reports:
        for key, run in read(content).lines.items():
            lines[key] = lines.get(key, False) or run
    return Covered(lines)


def read(content: bytes) -> Covered:
    """Read a report.

    :param content: bytes of the XML file.
    :return: its lines.
    :raises BuildFailed: if it is too large, no XML, no Cobertura, or names no line.
    """
    if len(content) > MAX_BYTES:
        raise BuildFailed(f"the coverage report has {len(content):,} bytes, more than {MAX_BYTES:,}")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BuildFailed(f"the coverage report is truncated or not XML: {error}") from error
    if reader.root != "coverage":
        raise BuildFailed(
            f"the coverage report's root element is <{reader.root}>, not <coverage>",
            remedy="Let the test command write Cobertura XML (pytest-cov: --cov-report=xml:{coverage}).",
        )
    if not reader.lines:
        raise BuildFailed(
            "the coverage report names no line", remedy="Does the test command measure the right folder?"
        )
    return Covered(reader.lines)


def _refuse_entity(*_: object) -> None:
    raise BuildFailed("the coverage report declares an entity, which is refused")
