"""Look at the knobs of a deliverable, and say which one moves. Only a commit moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import mapping, not_empty, positive
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.decision import decide, look, recorded, told_in
from airflow_pipeops.operations.tuning.knob import APPLY, PROPOSE, Knob
from airflow_pipeops.operations.tuning.reading import knobs_in
from airflow_pipeops.operations.tuning.sources import (
    ACTING,
    busy_with,
    of_alarms,
    of_gates,
    of_retrains,
    read_outcomes,
)
from airflow_pipeops.operations.tuning.steps import Step

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from airflow_pipeops.delivery.records import Record

#: What stands for outcomes that records tell.
RECORDED = {"retrains": of_retrains, "alarms": of_alarms, "gates": of_gates}


class TuneOperator(DeliveryOperator):
    """Look at the knobs that lie in a file in Git, and say which one moves, and why.

    The file has a list ``knobs``, whose entries have the fields of :class:`~airflow_pipeops.operations.tuning.knob.Knob`.
    One knob moves at most, and only by what :class:`~airflow_pipeops.git.operators.GitOpsCommitOperator` commits of
    ``set``; in mode ``propose`` a person must agree first. All that was decided is one record, which can be decided again.

    Returns ``{acts, needs_approval, action, rule, knob, reason, file, set, expect, message, decisions, record_id}``; ``set``
    is empty where nothing moves.

    :param file: path of the YAML or JSON file in the repository.
    :param outcomes: name of a knob -> what came of it: a list of mappings with ``at``, ``hit``, and perhaps ``loss`` and
        ``labelled_at``; the URIs of Parquet or CSV files with these columns; or one word for what the records of this
        deliverable tell: ``retrains`` (a hit is a retrain that did not help), ``alarms`` (an anomaly that was none) or
        ``gates`` (a gate that let a bad one through); templated.
    :param git_conn_id: connection of the repository.
    :param storage_conn_id: connection of type ``pipeops_storage``, for relative names of files.
    :param busy: what else acts on the deliverable, which the records do not tell; templated.
    :param interlock: how long a retrain, a rollback, an incident or a remediation that a record tells counts as under way.
    :param kill_switch: name of an Airflow Variable; while it holds anything but an empty text, ``0``, ``false``, ``no`` or
        ``off``, nothing moves.
    :raises InvalidInput: for knobs whose rails make no sense, or outcomes that cannot be read; nothing was decided then.
    """

    template_fields: Sequence[str] = ("file", "outcomes", "busy", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("tuning",)
    ui_color = "#fff3d6"

    def __init__(
        self,
        *,
        file: str,
        outcomes: Mapping[str, Any],
        git_conn_id: str = "pipeops_gitops_repo",
        storage_conn_id: str | None = None,
        busy: str = "",
        interlock: timedelta = timedelta(days=1),
        kill_switch: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.outcomes = outcomes
        self.git_conn_id = git_conn_id
        self.storage_conn_id = storage_conn_id
        self.busy = busy
        self.interlock = positive("interlock", interlock, zero=True)
        self.kill_switch = kill_switch
        not_empty(
            "deliverable",
            self.deliverable,
            "a tuner remembers by records, which need a deliverable",
            "Pass deliverable=Deliverable(...).",
        )
        read = [self.deliverable.asset("tuning"), *self._others()]  # type: ignore[union-attr]
        self.inlets = [*self.inlets, *(asset for asset in read if asset not in self.inlets)]

    def _others(self) -> list[Asset]:
        """Return the assets that say what else acts, and what became of retrains, alarms and gates."""
        assert self.deliverable is not None
        kinds = (
            "evaluation",
            "validation",
            "anomaly",
            "model",  # by which the gate of a model leads to its change
            "approval",
            "change",
            "release",
            *(kind for kind in ACTING if kind in KINDS),
        )
        found = [
            self.deliverable.asset(kind, place)
            for kind in kinds
            for place in (self.deliverable.environments if kind in PER_ENVIRONMENT else (None,))
        ]
        return [*found, self.deliverable.retrain]

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide and record."""
        from airflow_pipeops.base.configuration import switched_on
        from airflow_pipeops.delivery.events import read_on

        with no_retry():
            knobs = self.knobs()
            given = mapping("outcomes", self.outcomes, "Give {knob: outcomes}.")
            absent = [knob.name for knob in knobs if knob.name not in given]
            if absent:
                raise InvalidInput(
                    f"no outcomes are given for the knob {absent[0]!r}", field="outcomes", value=absent
                )
            assert self.deliverable is not None
            own, left_out = read_on(context, self.deliverable.asset("tuning"))
            if left_out:  # limits of moves are none where a move is not counted
                raise InvalidInput(
                    f"{len(left_out)} records of this tuner cannot be read, and may tell of moves: {left_out[0]}",
                    field="history",
                    remedy="Run the version that wrote them.",
                )
            records, _ = read_on(context, *self._others())
            now = datetime.now(timezone.utc)
            past = [step for record in own for _, step in told_in(record.body)]
            busy = str(self.busy or "") or busy_with(records, now, self.interlock)
            off = switched_on(self.kill_switch)
            # Who has moved last comes last: of two that want to move, the same one would always win.
            order = sorted(
                knobs,
                key=lambda knob: max(
                    (one.at for one in past if one.knob == knob.name and one.moves), default=""
                ),
            )
            decisions: list[tuple[Knob, Step]] = []
            for knob in order:
                evidence = look(self._outcomes(given[knob.name], records), knob, past, now)
                step = decide(knob, evidence, past, now, busy=busy, off=off)
                self.log.info("%s: %s (%s). %s", knob.name, step.action, step.rule, step.reason)
                past.append(step)
                decisions.append((knob, step))
            body = recorded(decisions, busy=busy, off=off)
            return {
                **self._told([step for _, step in decisions]),
                "record_id": self.emit(context, "tuning", body),
            }

    def knobs(self) -> list[Knob]:
        """Read the knobs from Git.

        :return: the knobs, in the order of the file.
        :raises InvalidInput: if there is none, too many, two of one name, or one that makes no sense.
        """
        from airflow_pipeops.git.hook import GitHook

        return knobs_in(GitHook(self.git_conn_id).get_conn().read(self.file), self.file)

    def _outcomes(self, given: Any, records: Sequence[Record]) -> Any:
        if isinstance(given, str) and given in RECORDED:
            return RECORDED[given](records)
        return read_outcomes(given, self.storage_conn_id)

    def _told(self, steps: Sequence[Step]) -> dict[str, Any]:
        """Return what is to be done: what the one knob that moves needs for its commit."""
        chosen = next((step for step in steps if step.moves), None) or next(
            (step for step in steps if step.action == "stop"), steps[0]
        )
        path = f"knobs[name={chosen.knob}].value"
        acts = chosen.moves and chosen.mode == APPLY
        asks = chosen.moves and chosen.mode == PROPOSE
        wanted = acts or asks
        return {
            "acts": acts,
            "needs_approval": asks,
            "action": chosen.action,
            "rule": chosen.rule,
            "knob": chosen.knob,
            "reason": chosen.reason,
            "file": self.file,
            "set": {path: chosen.to} if wanted else {},
            "expect": {path: chosen.value} if wanted else {},
            "message": f"Move {chosen.knob} from {chosen.value:g} to {chosen.to:g}\n\n{chosen.reason}",
            "decisions": [step.to_json() for step in steps],
        }
