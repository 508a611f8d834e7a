"""The Delivery page's API, the status command and the intake of events, with a million records of a thousand deliverables.

Run: python -m tests.benchmarks.delivery_page [--records 1000000] [--deliverables 1000] [--index FILE]

The index is written as in ledger_queries.py, and the ledger's files from the index; one that is there already is used again.
A real API server of Airflow answers over HTTP. Beside the clock on the wall stands the CPU time of the server's processes
for each call, as the kernel counts it, for machines that others use meanwhile.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.feeder import lock_file
from airflow_pipeops.delivery.ledger.files import WIDTH, Ledger
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.ingest import Ingest
from airflow_pipeops.delivery.ledger.tree import leaf_hash
from tests.benchmarks.ledger import fill
from tests.benchmarks.ledger_queries import CYCLE, START, p95, seed, sha
from tests.browser import chromium, visit
from tests.delivery.ledger.conftest import Database
from tests.ui.conftest import Server, running
from tests.ui.managers import NARROW

NEW = 5000


def processes(server: Server) -> list[Path]:
    """The API server's processes, by the port in the names that they give themselves."""
    named, found = f"port:{server.url.rpartition(':')[2]}".encode(), []
    for one in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if named in (one / "cmdline").read_bytes():
                found.append(one)
    assert found, "the API server has another name"
    return found


def cpu(working: list[Path]) -> float:
    """Milliseconds that processes have worked."""
    tasks = [task for process in working for task in process.glob("task/*")]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def panels(records: int, deliverables: int) -> dict[str, Callable[[random.Random], tuple[str, str]]]:
    """Each panel's question, with names and times drawn anew, and who asks."""
    cycles = records // (deliverables * len(CYCLE))

    def name(draw: random.Random) -> str:
        return f"d{draw.randrange(deliverables):04}"

    def when(draw: random.Random) -> str:
        return quote((START + timedelta(days=draw.uniform(100, 690))).isoformat())

    def release(draw: random.Random) -> str:
        return sha(draw.randrange(deliverables), draw.randrange(cycles), 8)

    return {
        "is anything new? (every two seconds)": lambda d: ("/api/state", "viewer"),
        "Now": lambda d: ("/api/now", "viewer"),
        "names of deliverables": lambda d: (f"/api/deliverables?after={name(d)}", "viewer"),
        "Matrix, 100 deliverables": lambda d: (f"/api/matrix?after={name(d)}", "viewer"),
        "Matrix at another time": lambda d: (f"/api/matrix?after={name(d)}&at={when(d)}", "viewer"),
        "Matrix of whoever may not read all": lambda d: (f"/api/matrix?after={name(d)}", NARROW),
        "Passport of a release": lambda d: (f"/api/passport/{release(d)}", "viewer"),
        "Passport of what is live": lambda d: (f"/api/passport/{name(d)}@production", "viewer"),
        "Timeline of a deliverable, 500 records": lambda d: (f"/api/history?deliverable={name(d)}&limit=500", "viewer"),
        "Timeline of everything, 500 records": lambda d: (f"/api/history?end={when(d)}&limit=500", "viewer"),
        "what changed before a moment": lambda d: (f"/api/before?moment={when(d)}&deliverable={name(d)}", "viewer"),
        "suspects of a release": lambda d: (f"/api/why/{release(d)}", "viewer"),
        "Data": lambda d: (f"/api/data?deliverable={name(d)}", "viewer"),
        "Figures, 90 days": lambda d: (f"/api/figures?deliverable={name(d)}&environment=production", "viewer"),
        "Figures, a year": lambda d: (f"/api/figures?deliverable={name(d)}&environment=production&days=365", "viewer"),
    }  # fmt: skip


def ask(server: Server, records: int, deliverables: int, times: int) -> None:
    """Ask each panel's question, and print how long the answers took."""
    import httpx

    print("| panel | median ms | p95 ms | p95 CPU ms | kB |\n|---|---|---|---|---|")
    working = processes(server)
    with httpx.Client(base_url=f"{server.url}/pipeops", timeout=600) as client:
        for panel, question in panels(records, deliverables).items():
            draw, took, worked, size = random.Random(1), [], [], 0
            for number in range(times + 1):
                path, user = question(draw)
                busy, began = cpu(working), time.perf_counter()
                answer = client.get(path, headers={"Authorization": f"Bearer {server.token(user)}"})
                took.append((time.perf_counter() - began) * 1000)
                worked.append(cpu(working) - busy)
                assert answer.status_code == 200, (path, answer.text[:500])
                size = max(size, len(answer.content))
                if not number:  # modules are loaded, and rights found out
                    first, took, worked = took[0], [], []
            print(
                f"| {panel} | {statistics.median(took):.0f} | {p95(took):.0f} | {p95(worked):.0f} | {size / 1000:.0f} |"
                f" first {first:.0f} ms, load {os.getloadavg()[0]:.0f}",
                flush=True,
            )


#: Notes when the first rows of the matrix, and when all of them, are painted, in milliseconds since the navigation began.
_SEEN = """
window.seen = {};
const note = (name) => {
  if (name in seen) return;
  seen[name] = null;
  requestAnimationFrame(() => setTimeout(() => {
    seen[name] = performance.now();
    document.documentElement.dataset[name] = "";
  }));
};
new MutationObserver(() => {
  if (document.querySelector(".matrix tbody tr")) note("first");
  if (/^(\\d+) of \\1 deliverables$/.test(document.querySelector("#cells [role=status]")?.textContent ?? "")) note("whole");
}).observe(document, { childList: true, subtree: true });
"""


def usable(server: Server, times: int = 10) -> None:
    """Measure in a browser how long it takes from the navigation until the matrix is there; each with an empty cache."""
    print("| in the browser | median ms | p95 ms |\n|---|---|---|")
    took: dict[str, list[float]] = {"first": [], "whole": []}
    with chromium() as browser:
        for number in range(times + 1):
            page = visit(browser)
            page.context.add_cookies([{"name": "_token", "value": server.token("viewer"), "url": server.url}])
            page.add_init_script(_SEEN)
            page.goto(f"{server.url}/pipeops/page?panel=matrix")
            page.locator("html[data-first][data-whole]").wait_for()
            found = page.evaluate("seen")
            page.context.close()
            for name in took if number else ():  # the first starts the browser
                took[name].append(found[name])
    for name, what in {"first": "the first 100 deliverables", "whole": "all of them"}.items():
        print(f"| {what} | {statistics.median(took[name]):.0f} | {p95(took[name]):.0f} |", flush=True)
    print(f"load {os.getloadavg()[0]:.0f}")


def status(server: Server) -> None:
    """Measure the command, with and without the start of Airflow's command line."""
    program = """
import contextlib, io, time
from airflow.cli.cli_parser import get_parser
from airflow_pipeops.delivery.commands.reading import status_command
for output in ["json", "table"] * 5:
    given = get_parser().parse_args(["pipeops", "status", "--as-it-is", "--output", output])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        began, busy = time.perf_counter(), time.process_time()
        status_command(given)
        took = time.perf_counter() - began, time.process_time() - busy
    print(f"status, {output}: {took[0]:.2f} s on the clock, {took[1]:.2f} s of CPU, {len(said.getvalue()) / 1e6:.1f} MB")
"""
    print(server.python(program), end="", flush=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "airflow", "pipeops", "status", "--as-it-is", "--output", "json"]
    subprocess.run(command, env=server.warm.environment, check=True, capture_output=True)
    print(f"the whole command: {time.perf_counter() - began:.1f} s on the clock", flush=True)


def write(ledger: Ledger, index: Path) -> bytes:
    """Write the ledger that an index was made of; SQLite makes the lines, which takes a tenth of the time.

    :return: its last line.
    """
    fields = {
        "dag": "dag_id", "event": "event_id", "extra": "json(content)", "map_index": "map_index", "name": "asset_name",
        "partition": "NULL", "run": "run_id", "seq": "seq", "stored": "stored", "task": "task_id", "uri": "asset_uri",
    }  # fmt: skip
    line = ", ".join(f"'{name}', {column}" for name, column in fields.items())
    connection = sqlite3.connect(index)
    rows = connection.execute(f"SELECT json_object({line}) FROM records ORDER BY seq")
    number, last = 0, b""
    while some := [row[0].encode() for row in rows.fetchmany(WIDTH)]:
        ledger._write(number, some)
        if len(some) == WIDTH:
            ledger._seal(number, some)
        number, last = number + 1, some[-1]
    connection.close()
    return last


def ingest(home: Path, index: Path) -> None:
    """Take up new events at the end of a ledger that is as large as the index."""
    ledger = Ledger.open((home / "ledger").as_uri())
    began = time.perf_counter()
    line = write(ledger, index)
    last = Entry.read(line)
    print(f"ledger of {last.seq:,} entries written in {time.perf_counter() - began:.0f} s")
    with sqlite3.connect(index) as connection:
        connection.execute("UPDATE records SET leaf = ? WHERE seq = ?", (leaf_hash(line), last.seq))
    connection.close()
    database = Database(f"sqlite:///{home / 'events.db'}")
    opened = Index.open(index)
    taking = Ingest(ledger, opened, Events(database.engine))
    first = last.event
    for count in (20, NEW, 20, 20):
        fill(database, first + 1, count)
        first += count
        began, busy = time.perf_counter(), time.process_time()
        appended = taking.run(home / "lock")
        took, worked = time.perf_counter() - began, time.process_time() - busy
        assert appended == count
        print(
            f"{count} new events: {took:.2f} s on the clock, {worked:.2f} s of CPU: {count / took:.0f} records/s on the"
            f" clock, {count / worked:.0f} of CPU, load {os.getloadavg()[0]:.0f}",
            flush=True,
        )
    opened.close()


def main() -> None:
    """Seed, serve, ask, take up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--deliverables", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--index", type=Path)
    given = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        index = home / "airflow" / "pipeops" / "index.db"
        index.parent.mkdir(parents=True)
        kept = given.index or home / "index.db"
        if not kept.exists():
            seed(kept, given.records, given.deliverables)
        index.symlink_to(kept)
        held = stack.enter_context(lock_file(str(index)).open("ab"))
        fcntl.flock(held, fcntl.LOCK_EX)  # the server does not fill it meanwhile
        with running(home / "airflow") as server:
            ask(server, given.records, given.deliverables, given.times)
            usable(server)
            status(server)
        ingest(home, kept)


if __name__ == "__main__":
    main()
