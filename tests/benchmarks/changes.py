"""How often the true cause is found in simulated histories, and how long it takes in a ledger of 200,000 records.

300 incidents of ten causes and 150 without one, each in a history of its own among 5 to 30 innocent changes; through a real
index and the whole of ``airflow pipeops why``. The seeds are others than those with which the numbers were looked at.

Run: python -m tests.benchmarks.changes [--each 30] [--idle 120] [--records 200000] [--first SEED]
    [--thresholds 30] [--demo 300]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from airflow_pipeops.delivery.ledger.index import reader
from airflow_pipeops.delivery.queries.history import newest
from airflow_pipeops.operations.changes.gathering import why
from tests.benchmarks.ledger_queries import p95, seed
from tests.operations.changes import demo
from tests.operations.changes.histories import CAUSES, History, episodes
from tests.operations.changes.proof import Answer, answers, share

FIRST = 7_000_000


def row(name: str, found: list[Answer]) -> str:
    """One row of the table."""
    outcomes = [one.found.outcome for one in found]
    figures = (
        share(one.place == 0 for one in found),
        share(one.place < 3 for one in found),
        share(one.rank == 0 for one in found),
        share(one.rank < 3 for one in found),
        share(one.last for one in found),
        share(one.last_deployed for one in found),
        outcomes.count("likely") / len(found),
        outcomes.count("none of these") / len(found),
        outcomes.count("cannot tell") / len(found),
    )
    return f"| {name} | {len(found)} | {' | '.join(f'{figure:.0%}' for figure in figures)} |"


def quality(each: int, first: int = FIRST) -> None:
    """Print what is found."""
    found = answers(episodes(each * len(CAUSES), first))
    print(
        "| cause | incidents | first | first three | first, with none | three, with none | last change | last deployed"
        " | likely | none | cannot tell |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for cause in CAUSES:
        print(row(cause, [one for one in found if one.episode.cause == cause]))
    caused = [one for one in found if one.episode.cause != "nothing"]
    print(row("all but nothing", caused))
    named = [one for one in found if one.found.outcome == "likely"]
    right = share(one.episode.cause != "nothing" and one.is_it(0) for one in named)
    stated = statistics.mean(one.found.suspects[0].probability for one in named)
    print(f"\nBrier score of what is named first: {statistics.mean(one.loss for one in found):.3f}")
    print(f"of {len(named)} that were called likely, {right:.0%} are it; {stated:.0%} is what was stated")
    idle = [one for one in found if one.episode.cause == "nothing"]
    blamed = share(one.found.outcome == "likely" for one in idle)
    print(f"of {len(idle)} without a cause, {blamed:.0%} are blamed on a change")
    abstained = [one for one in caused if one.found.outcome != "likely"]
    print(
        f"of {len(caused)} with a cause, {len(abstained) / len(caused):.0%} are called on none;"
        f" in {share(one.place < 3 for one in abstained):.0%} of those it is among the first three all the same"
    )


def idle(count: int, first: int) -> None:
    """Print what is said of so many further incidents that nothing recorded has caused."""
    found = answers(History("nothing", first + number).make() for number in range(count))
    print(f"\n{row('nothing', found)}")


def thresholds(each: int) -> None:
    """Print what each probability from which a suspect is called would do; with histories of two other sets of seeds."""
    halves = []
    for first in (21_000_000, 22_000_000):
        found = answers(episodes(each * len(CAUSES), first))
        halves.append(
            found + answers(History("nothing", first + 100_000 + n).make() for n in range(4 * each))
        )
    print(
        "\n| called from | half | causes called | innocents blamed instead | without a cause, blamed | called, and right |"
    )
    print("|---|---|---|---|---|---|")
    for certain in (0.5, 0.6, 2 / 3, 0.75, 0.8, 0.85, 0.9, 0.95):
        for name, found in zip(("chosen on", "measured on"), halves, strict=True):
            called = [
                one for one in found if one.found.suspects and one.found.suspects[0].probability >= certain
            ]
            caused = [one for one in called if one.episode.cause != "nothing"]
            right = sum(one.is_it(0) for one in caused)
            of = sum(one.episode.cause != "nothing" for one in found)
            figures = (
                right / of,
                (len(caused) - right) / of,
                (len(called) - len(caused)) / (len(found) - of),
                right / max(1, len(called)),
            )
            print(f"| {certain:.0%} | {name} | {' | '.join(f'{figure:.0%}' for figure in figures)} |")


def demonstrated(count: int, first: int) -> None:
    """Print what is found in the demo's own history, at two paces of it."""
    print(
        "| | incidents | first | first three | last of all changes | last of these | last deployed | likely | none |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for pace in (demo.PACE, 60):
        found = answers(demo.incidents(count, first, pace))
        causes = sorted({one.episode.cause for one in found}) if pace == demo.PACE else []
        for name in [*causes, f"all, {pace} times slower"]:
            of = [one for one in found if name in (one.episode.cause, f"all, {pace} times slower")]
            figures = (
                share(one.place == 0 for one in of),
                share(one.place < 3 for one in of),
                share(demo.last_of_all(one.episode, one.found.symptom.end, pace) for one in of),
                share(one.last for one in of),
                share(one.last_deployed for one in of),
                share(one.found.outcome == "likely" for one in of),
                share(one.found.outcome == "none of these" for one in of),
            )
            print(f"| {name} | {len(of)} | {' | '.join(f'{figure:.0%}' for figure in figures)} |", flush=True)
        idle = answers(demo.idle(count // 2, first, pace))
        print(
            f"of {len(idle)} without a cause, {share(one.found.outcome == 'likely' for one in idle):.0%} are blamed\n"
        )


def speed(records: int) -> None:
    """Print how long it takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.db"
        seed(path, records, 200)
        connection = reader(path)
        draw = random.Random(1)
        took = []
        for _ in range(60):
            deliverable = f"d{draw.randrange(200):04}"
            at = newest(connection, [deliverable], ("release",))[0].at
            began = time.perf_counter()
            why(connection, f"{deliverable}@production@{at}")
            took.append((time.perf_counter() - began) * 1000)
        print(
            f"\nwhy, in {records:,} records: median {statistics.median(took):.0f} ms, p95 {p95(took):.0f} ms"
        )


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=30)
    parser.add_argument(
        "--first", type=int, default=FIRST, help="the first seed; tune with others than the default"
    )
    parser.add_argument("--idle", type=int, default=120)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument(
        "--thresholds", type=int, default=0, metavar="EACH", help="of each cause, in each half"
    )
    parser.add_argument("--demo", type=int, default=0, metavar="INCIDENTS", help="in the demo's history")
    given = parser.parse_args()
    if given.each:
        quality(given.each, given.first)
    if given.idle:
        idle(given.idle, given.first + 100_000)
    if given.thresholds:
        thresholds(given.thresholds)
    if given.demo:
        demonstrated(given.demo, given.first)
    if given.records:
        speed(given.records)


if __name__ == "__main__":
    main()
