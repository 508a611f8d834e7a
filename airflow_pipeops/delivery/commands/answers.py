"""What the commands share: how they end, how they open the ledger, and how they print."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.passport import flat, told
from airflow_pipeops.exceptions import NotFound, PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.delivery.queries.facts import Fact

#: How a command ends: answered and well; answered, and something is not well; not answered; nothing by that name.
WELL, NOT_WELL, FAILED, ABSENT = 0, 1, 2, 3

#: Characters of a line where no terminal says how many there are.
_WIDE = 200


def answer(name: str, work: Callable[[Any], int], args: Any) -> None:
    """Run a command: what is wrong ends it with one sentence, and never with a traceback.

    :param name: of the command, as its errors say it.
    :param work: what it does; it returns the exit code.
    :param args: of the command.
    :raises SystemExit: with the exit code, unless all is well.
    """
    from airflow.utils.cli import suppress_logs_and_warning

    codes: list[int] = []
    # Airflow logs to the standard output, where the answer goes; --verbose lets it.
    quietly = suppress_logs_and_warning(lambda given: codes.append(work(given)))
    try:
        quietly(args)  # type: ignore[no-untyped-call]
        (code,) = codes
    except PipeOpsError as error:
        print(f"airflow pipeops {name}: {error}", file=sys.stderr)
        code = ABSENT if isinstance(error, NotFound) else FAILED
    except sqlite3.Error as error:
        anew = "Where its file is deleted, it is made anew from the ledger: see docs/ledger.md."
        print(
            f"airflow pipeops {name}: the index of the ledger cannot be read: {error}. {anew}",
            file=sys.stderr,
        )
        code = FAILED
    except BrokenPipeError:  # as with "| head"
        sys.stderr.close()
        code = WELL
    if code:
        raise SystemExit(code)


@contextmanager
def opened(args: Any) -> Iterator[sqlite3.Connection]:
    """Open the index of the ledger for reading, after it took up what is new.

    :param args: of the command.
    :yield: the connection.
    :raises NotFound: if there is no ledger yet, and none can be made.
    """
    from airflow_pipeops.base.configuration import index_path
    from airflow_pipeops.delivery.ledger.index import reader

    path = index_path()
    fresh = getattr(args, "as_it_is", False) or _take_up(path)
    absent = NotFound(
        f"there is no index of the ledger at {path}",
        remedy="Run airflow pipeops ledger ingest where Airflow's database can be read; see docs/cli.md.",
    )
    if not Path(path).exists():
        raise absent
    with closing(reader(path)) as connection:
        if not fresh and not connection.execute("SELECT 1 FROM records LIMIT 1").fetchone():
            raise absent  # it was made just now, and what belongs into it could not be read
        yield connection


def _take_up(path: str) -> bool:
    """Take up new events; where that cannot be done, say so.

    :return: whether it was done.
    """
    from airflow_pipeops.delivery.ledger.feeder import lock_file
    from airflow_pipeops.delivery.ledger.ingest import Ingest

    try:
        with connections_of_the_database():  # the key that signs is one
            ingest = Ingest.configured()
        try:
            if ingest.behind:
                ingest.run(lock_file(path))
        finally:
            ingest.index.close()
    except Exception as error:  # whatever it is, what the ledger holds is worth reading
        said = error if isinstance(error, PipeOpsError) else type(error).__name__
        print(f"What is new was not taken up: {said}", file=sys.stderr)
        return False
    return True


@contextmanager
def connections_of_the_database() -> Iterator[None]:
    """Let hooks read connections from Airflow's database, as ``airflow connections test`` does."""
    name = "_AIRFLOW_PROCESS_CONTEXT"
    before = os.environ.get(name)
    os.environ[name] = "server"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def shown(data: Any, output: str) -> bool:
    """Print data for a program, if that is asked for.

    :param data: in the form of JSON.
    :param output: ``json`` or ``yaml``; any other prints nothing.
    :return: whether it was printed.
    """
    if output == "json":
        print(json.dumps(data, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
    return output in ("json", "yaml")


def rows(title: str, table: Sequence[Mapping[str, Any]], output: str, *, empty: str) -> None:
    """Print rows for a person, or plain for other programs: one line a row, parted by tabs, with a line of names.

    :param title: above a table.
    :param table: the rows, of which each has the same columns.
    :param output: ``table`` or ``plain``.
    :param empty: what to say in place of a table without rows.
    """
    if output == "plain":
        for number, row in enumerate(table):
            if not number:
                print("\t".join(row))
            print("\t".join(flat(value) for value in row.values()))
        return
    console = _console()
    if not table:
        console.print(f"{title}: {empty}", markup=False, highlight=False)
        return
    console.print(title, style="table.title", markup=False, highlight=False)
    print("\n".join(_lines(console, table)), file=console.file)


def _lines(console: Any, table: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Draw a table as rich does, in a tenth of its time: of a thousand rows, few have a cell that needs to be folded."""
    from rich.box import HEAVY_HEAD
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    cells = [[flat(value) for value in row.values()] for row in table]
    wide = [max(map(cell_len, column)) for column in zip(table[0], *cells, strict=True)]
    while sum(wide) + 3 * len(wide) + 1 > max(console.width, 5 * len(wide)):
        wide[wide.index(max(wide))] -= 1

    def drawn(row: Iterable[str], left: str, between: str, right: str) -> Iterator[str]:
        folded = [
            [cell]
            if cell_len(cell) <= size
            else [one.plain for one in Text(cell).wrap(console, size, overflow="fold")]
            for cell, size in zip(row, wide, strict=True)
        ]
        for parts in zip_longest(*folded, fillvalue=""):
            line = (f" {set_cell_size(part, size)} " for part, size in zip(parts, wide, strict=True))
            yield left + between.join(line) + right

    box, around = HEAVY_HEAD.substitute(console.options), [size + 2 for size in wide]
    yield box.get_top(around)
    yield from drawn(table[0], box.head_left, box.head_vertical, box.head_right)
    yield box.get_row(around, "head")
    for row in cells:
        yield from drawn(row, box.mid_left, box.mid_vertical, box.mid_right)
    yield box.get_bottom(around)


def age(at: str, now: datetime | None = None) -> str:
    """Say how long ago a time was, in two units."""
    if not at:
        return ""
    moment = now or datetime.now(timezone.utc)
    seconds = max(0, int((moment - datetime.fromisoformat(at)).total_seconds()))
    return duration(seconds)


def duration(seconds: float | None) -> str:
    """Say a duration in its two largest units; ``-`` for none."""
    if seconds is None:
        return "-"
    left = int(seconds)
    said: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size or (unit == "s" and not said):
            said.append(f"{left // size} {unit}")
            left %= size
        if len(said) == 2:
            break
    return " ".join(said)


def moment_of(at: str) -> str:
    """Return a time to the second, as a table shows it."""
    return at[:19] + "Z" if at else ""


def named(fact: Fact) -> dict[str, Any]:
    """Return the row of a fact in a table of what happened."""
    doubt = f"not believed: {fact.problem}; " if fact.problem else ""
    return {
        "time": moment_of(fact.at),
        "deliverable": fact.deliverable,
        "environment": fact.environment,
        "kind": fact.kind,
        "record": fact.id[:12],
        "what": doubt + told(fact),
    }


def _console() -> Any:
    from rich.console import Console

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
