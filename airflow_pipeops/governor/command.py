"""What ``airflow pipeops replay`` does: read a policy and a history, replay, print."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from airflow_pipeops.base.arguments import imported, mapping, not_empty, one_given
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.delivery.commands.answers import WELL, shown
from airflow_pipeops.delivery.events import Event, read_records
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from airflow_pipeops.governor.history import Observation, deduplicated
from airflow_pipeops.governor.policy import RetrainPolicy
from airflow_pipeops.governor.records import read_history
from airflow_pipeops.governor.replay import Step, replay, totals

#: Limit of the events of one asset that are read: the newest.
_EVENTS = 10_000


def replay_command(args: Any) -> int:
    """Replay, and print what would have been decided."""
    policy = read_policy(args.policy)
    history = _history(args.history, args.deliverable)
    steps = replay(history, policy)
    found = {"totals": totals(steps, policy), "policy": policy.to_json()}
    if not shown({**found, "steps": [step.to_json() for step in steps]}, "json" if args.json else ""):
        print(table(steps, policy))
    return WELL


def read_policy(given: str) -> RetrainPolicy:
    """Read the policy of a JSON or YAML file, or of an import path.

    :return: the policy.
    :raises InvalidInput: if there is no such file or object, or it is no policy.
    """
    if Path(given).suffix in (".json", ".yaml", ".yml"):
        return RetrainPolicy.from_json(read_document(given, "policy"))
    found = imported(given, "policy")
    if not isinstance(found, RetrainPolicy):
        raise InvalidInput(
            f"policy {given!r} is a {type(found).__name__}",
            field="policy",
            value=given,
            remedy="Name a RetrainPolicy, or a .json or .yaml file.",
        )
    return found


def read_document(given: str, field: str) -> Any:
    """Read a JSON or YAML file.

    :param given: its path.
    :param field: of the error.
    :return: what it holds.
    :raises InvalidInput: if there is no such file, or it is neither.
    """
    import yaml

    try:
        return yaml.safe_load(_text(Path(given), field))  # JSON is YAML
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(
            f"{given} is neither JSON nor YAML: {' '.join(str(error).split())}",
            field=field,
            value=given,
        ) from error


def read_lines(lines: Iterable[str]) -> list[Observation]:
    """Read JSON lines: bare observations, as the governor's task returns them, or records of decisions.

    :return: the observations, in the order of the lines.
    :raises InvalidInput: naming the line that is none.
    """
    found: list[Observation] = []
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = parsed(line)
            mapping("history", data, "", message="it is not an object")
            if "schema" in data:
                records.append(Record.from_extra(data))
            else:
                found.append(Observation.from_json(data.get("observation", data)))
        except (ValueError, InvalidInput) as error:
            raise InvalidInput(
                f"line {number} of the history cannot be read: {error}",
                field="history",
                value=number,
                remedy="Give one JSON object a line: an observation, or a record.",
            ) from error
    return deduplicated([*found, *_told(read_history(records))])


def table(steps: Sequence[Step], policy: RetrainPolicy) -> str:
    """Return the decisions with their reasons, and the totals."""
    wide = max((len(step.observation.batch) for step in steps), default=5)
    lines = [f"{'batch':{wide}}  {'metric':>7}  {'decision':11}  {'recorded':11}  reasons"]
    for step in steps:
        item = step.observation
        estimated = "~" if item.performance is None else ""
        metric = "-" if item.metric is None else f"{item.metric:.3f}{estimated}"
        start = f"{item.batch:{wide}}  {metric:>7}  {step.decision.action:11}  {step.recorded or '-':11}  "
        text = textwrap.wrap(" ".join(step.decision.reasons), 90) or [""]
        lines += [start + text[0], *(" " * len(start) + more for more in text[1:])]
    found = totals(steps, policy)
    counted = ", ".join(
        f"{count} {name}" for name, count in found.items() if name not in ("batches", "cost", "differ")
    )
    lines.append(f"\n{found['batches']} batches: {counted}; {found['differ']} unlike the record.")
    if found["cost"] is not None:
        lines.append(f"The retrains cost {found['cost']:g}.")
    if found["differ"]:
        lines.append("After the first difference the metrics are still those of the models that served then.")
    return "\n".join(lines)


def _history(path: str | None, deliverable: str | None) -> list[Observation]:
    remedy = "Give --history FILE or --deliverable NAME, and not both."
    one_given("a replay needs one history", remedy, history=path, deliverable=deliverable)
    if path:
        found = read_lines(sys.stdin if path == "-" else _text(Path(path), "history").splitlines())
    else:
        found = _told(read_history(from_database(str(deliverable))))
    remedy = "Replay a policy where RetrainGovernorOperator has recorded decisions; mode observe is enough."
    not_empty("history", found, f"there is no decision in {path or deliverable}", remedy)
    return found


def _told(found: tuple[list[Any], list[str]]) -> list[Any]:
    """Say what is left out; return the rest."""
    for why in found[1]:
        print(f"airflow pipeops replay: left out: {why}", file=sys.stderr)
    return found[0]


def _text(path: Path, field: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            field=field,
            value=str(path),
        ) from error


def from_database(deliverable: str) -> list[Record]:
    """Read the records of decisions, and of what came of them, from the database of this Airflow.

    :return: the records, oldest first.
    :raises InvalidInput: for a name that no deliverable can have.
    :raises Unreachable: if the database cannot be read.
    """
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_pipeops.delivery.deliverable import Deliverable

    model = Deliverable(deliverable)
    kinds = [model.asset(kind) for kind in ("decision", "evaluation", "validation")]
    found: list[Event] = []
    try:
        with create_session() as session:
            for asset in (*kinds, model.retrain):
                source = (AssetEvent.source_dag_id, AssetEvent.source_run_id)
                task = (AssetEvent.source_task_id, AssetEvent.source_map_index)
                query = (
                    select(AssetEvent.timestamp, AssetEvent.extra, *source, *task)
                    .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
                    .where(AssetModel.name == asset.name, AssetModel.uri == asset.uri)
                    .order_by(AssetEvent.timestamp.desc())
                    .limit(_EVENTS)
                )
                for at, extra, *by in session.execute(query):
                    found.append(Event(extra, asset.name, asset.uri, at, *by))
    except SQLAlchemyError as error:  # its text may hold the address, so only its type is told
        raise Unreachable(
            f"the database of this Airflow cannot be read ({type(error).__name__})",
            remedy="Check [database] sql_alchemy_conn, and run airflow db migrate.",
        ) from error
    return _told(read_records(sorted(found, key=lambda event: event.at)))
