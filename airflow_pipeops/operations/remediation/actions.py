"""What the remediator can do at all, as data. Nothing deletes, or acts outside of Git, Airflow and its own notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from airflow_pipeops.base.serialisation import JsonForm

Cost = Literal["none", "low", "high"]
#: Not done by itself: a person is called.
NOTIFY: Final = "notify"


@dataclass(frozen=True)
class Action(JsonForm):
    """One thing that can be done.

    :param name: of the action.
    :param says: what it does.
    :param needs: what a finding's target must name.
    :param parameters: what the rule must give.
    :param inverse: action that takes it back; empty if none does.
    :param cost: what it costs if it was wrong: ``none``, ``low`` (time) or ``high`` (what runs is another thing).
    :param only_undoes: whether it only takes another one back, so that no policy may name it.
    """

    name: str
    says: str
    needs: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    inverse: str = ""
    cost: Cost = "low"
    only_undoes: bool = False


_SCALE = ("file", "path", "least", "most", "step")

ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        action.name: action
        for action in (
            Action("retry_task", "clears one failed task, once", ("dag", "run", "task")),
            Action("clear_failed", "clears the failed tasks of a run, and what follows them", ("dag", "run")),
            Action("rerun_upstream", "starts one run of the DAG that makes the data", ("upstream",)),
            Action("pause_dag", "pauses a DAG", ("dag",), inverse="resume_dag"),
            Action("resume_dag", "resumes a DAG", ("dag",), inverse="pause_dag", only_undoes=True),
            Action("hold_promotion", "lets nothing be promoted", inverse="release_promotion", cost="none"),
            Action("release_promotion", "lets promotions pass again", cost="none", only_undoes=True),
            Action("quarantine_batch", "keeps a batch out", ("batch",), inverse="release_batch", cost="none"),
            Action("release_batch", "lets a batch in again", ("batch",), cost="none", only_undoes=True),
            Action("revert_commit", "reverts a commit of the desired state", ("commit",), cost="high"),
            Action(
                "roll_back_model",
                "lets Git want the model before",
                ("order",),
                ("file", "fields"),
                cost="high",
            ),
            Action("scale_up", "adds a step to a number in Git", (), _SCALE, "scale_down", "high"),
            Action("scale_down", "takes a step from a number in Git", (), _SCALE, "scale_up", "high"),
            Action(NOTIFY, "calls a person", cost="none"),
        )
    }
)
