"""Does the actions of the catalogue, by Git, Airflow's API and the models' rollback. Each finds itself if it was done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.connections import Result, work_with
from airflow_pipeops.base.documents import map_, text, whole
from airflow_pipeops.delivery.ledger.checkpoints import to_commit
from airflow_pipeops.exceptions import InvalidInput, SystemFailure

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository
    from airflow_pipeops.models.registry import Registry
    from airflow_pipeops.operations.airflow_api import AirflowApi
    from airflow_pipeops.operations.remediation.history import Operation

#: The trailer by which a commit names the operation that it is of.
TRAILER = "PipeOps-Remediation"


class OutsideHands:
    """Acts on the outside.

    :param airflow: returns a client of Airflow's API that is not open yet.
    :param git: opens the repository of the desired state.
    :param registry: opens the registry of models.
    """

    def __init__(
        self,
        airflow: Callable[[], AirflowApi],
        git: Callable[[], GitRepository],
        registry: Callable[[], Registry],
    ) -> None:
        self._airflow, self._git, self._registry = airflow, git, registry

    def plan(self, operation: Operation) -> Mapping[str, Any]:
        """See what there is before an act, so that whoever goes on knows what was meant, and what to go back to."""
        if operation.action == "pause_dag":
            return {"paused": self._asked(lambda api: api.paused(operation.target["dag"]))}
        if operation.action.startswith("scale_"):
            return self._scaled(operation)
        return {}

    def do(self, action: str, operation: Operation) -> Mapping[str, Any]:
        """Do an action of an operation: its own, or its inverse."""
        target, note = operation.target, f"remediation {operation.id}"
        dag, run = text(target.get("dag")), text(target.get("run"))
        if action == "retry_task":
            index = whole(target.get("map_index"))
            place = -1 if index is None else index
            return {"changed": self._asked(lambda api: api.retry_task(dag, run, target["task"], place, note))}
        if action == "clear_failed":
            return {"changed": self._asked(lambda api: api.clear_failed(dag, run, note))}
        if action == "rerun_upstream":
            name = f"remediation__{operation.id}"
            conf = map_(target.get("conf"))
            self._asked(lambda api: api.start(target["upstream"], name, conf, note))
            return {"changed": True, "run": name}
        if action in ("pause_dag", "resume_dag"):
            return self._pause(action, operation)
        if action == "revert_commit":
            done = self._git().revert(
                target["commit"], operation.reason, key=note, trailers=_trailers(operation)
            )
            return {"commit": done.commit, "changed": done.changed, "reverts": target["commit"]}
        if action == "roll_back_model":
            return self._roll_back(operation)
        if action.startswith("scale_"):
            return self._scale(action, operation)
        return {}  # held, or kept out, by the history itself

    def _asked(self, call: Callable[[AirflowApi], Awaitable[Result]]) -> Result:
        return work_with(self._airflow(), call)

    def _pause(self, action: str, operation: Operation) -> Mapping[str, Any]:
        dag = operation.target["dag"]
        if operation.plan.get("paused"):
            if action == "resume_dag":
                raise SystemFailure(f"{dag} was paused by somebody before", remedy="Let them resume it.")
            return {"changed": False}
        self._asked(lambda api: api.pause(dag, action == "pause_dag"))
        return {"changed": True}

    def _scaled(self, operation: Operation) -> Mapping[str, Any]:
        from airflow_pipeops.git.values.edits import get_values

        given = operation.parameters
        file, path = given["file"], given["path"]
        now = whole(get_values(self._git().read(file).decode(), [path]).get(path))
        if now is None or not given["least"] <= now <= given["most"]:
            raise InvalidInput(
                f"{path} of {file} is {now!r}, no whole number from {given['least']} to {given['most']}",
                field="path",
                value=path,
                remedy="Let the rule name a number within its bounds.",
            )
        step = given["step"] if operation.action == "scale_up" else -given["step"]
        then = min(max(now + step, given["least"]), given["most"])
        if then == now:
            raise InvalidInput(f"{path} of {file} is at its limit of {now}", field="path", value=now)
        return {"from": now, "to": then}

    def _scale(self, action: str, operation: Operation) -> Mapping[str, Any]:
        given, plan = operation.parameters, operation.plan
        old, new = (plan["from"], plan["to"]) if action == operation.action else (plan["to"], plan["from"])
        change = self._git().commit_edit(
            given["file"],
            {given["path"]: new},
            f"Set {given['path']} of {operation.place} from {old} to {new}\n\n{operation.reason}",
            key=f"remediation {operation.id} {action}",
            expect={given["path"]: old},
            trailers=_trailers(operation),
        )
        return {
            "commit": change.commit,
            "changed": change.changed,
            "file": given["file"],
            "set": {given["path"]: new},
        }

    def _roll_back(self, operation: Operation) -> Mapping[str, Any]:
        from airflow_pipeops.models.desired import ModelInGit
        from airflow_pipeops.models.rollback.saga import ModelRollback, RollbackOrder

        desired = ModelInGit(operation.parameters["file"], operation.parameters["fields"])
        try:
            order = RollbackOrder.from_json(operation.target["order"])
        except TypeError as error:
            raise InvalidInput(f"the finding's order is incomplete: {error}", field="order") from error
        rollback = ModelRollback(self._git(), self._registry(), desired, order)
        begun = rollback.begin(f"remediation {operation.id}", trailers=_trailers(operation))
        return {
            "commit": begun.commit,
            "changed": begun.mine,
            "file": desired.file,
            "set": dict(begun.values),
        }


def _trailers(operation: Operation) -> dict[str, str]:
    return {
        TRAILER: operation.id,
        "PipeOps-Deliverable": operation.deliverable,
        "PipeOps-Environment": operation.environment,
        **to_commit(),
    }
