"""Work of a module of this package, done away from the worker: by a Job of Kubernetes or a workflow of Argo Workflows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops import exceptions
from airflow_pipeops.base.arguments import mapping, not_empty
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.build.answers import ANSWER
from airflow_pipeops.build.backends import Waiting, Worker
from airflow_pipeops.build.cluster import pods
from airflow_pipeops.build.cluster.backends import KubernetesBackend, last_word
from airflow_pipeops.build.cluster.client import JobRef, remove
from airflow_pipeops.build.cluster.scripts import literal
from airflow_pipeops.exceptions import BadResponse, InvalidInput, PipeOpsError, PodFailed
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

#: The output parameter that the answer of a workflow becomes.
OUTPUT = "pipeops-answer"
#: The output parameter of its pod.
ANSWER_OF_NODE = "answer"
#: Where the pod of a workflow leaves it.
_ANSWER_FILE = "/tmp/pipeops-answer.json"
#: Linux gives one word of a command no more than 128 KiB.
_MOST_ARGUMENTS = 120 * 1024


@dataclass(frozen=True)
class Work:
    """What is done elsewhere.

    :param what: names it, in Jobs and workflows: ``train``.
    :param module: is run as ``python -m MODULE ARGUMENTS`` and writes its answer: what came of it, or ``error``, ``message``
        and ``retryable``.
    :param tells: the field without which an answer says nothing.
    :param needs: what the image must hold, for a person.
    :param shorter: what to do where the arguments are too long for a command, for a person.
    :param image_as: variable that tells the module its own image; empty for none.
    """

    what: str
    module: str
    tells: str
    needs: str
    shorter: str
    image_as: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What it is done in.

    :param image: with this package and what the work needs; by digest, so that a retry runs the same.
    :param secrets: names of Secrets whose entries become environment variables, such as ``AIRFLOW_CONN_PIPEOPS_ARTIFACTS``.
    :param env: further variables; no secrets.
    """

    image: str = ""
    secrets: Sequence[str] = ()
    env: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.secrets, str):
            raise InvalidInput(
                f"secrets is {self.secrets!r}",
                field="secrets",
                value=self.secrets,
                remedy="Give a list of names.",
            )
        for name, value in mapping("env", self.env or {}, "Give names and values.").items():
            if not isinstance(value, str):
                raise InvalidInput(f"env[{name!r}] is no text", field="env", remedy="Write it as a text.")


def container(work: Work, arguments: Mapping[str, Any], inside: Surroundings, answer: str) -> dict[str, Any]:
    """Compose the container that does it. Pure.

    :param work: what is done.
    :param arguments: as JSON.
    :param inside: what it is done in.
    :param answer: file for its answer.
    :return: the container of a pod.
    :raises InvalidInput: for arguments that are too long for a command, and without an image.
    """
    remedy = f"Give image= in run_options: an image with {work.needs}."
    not_empty("image", inside.image, "what runs in a cluster runs in an image, and none was named", remedy)
    words = json.dumps(arguments, sort_keys=True)
    if len(words.encode()) > _MOST_ARGUMENTS:
        raise InvalidInput(
            f"the arguments are longer than {_MOST_ARGUMENTS // 1024} KiB",
            field="data",
            value=len(words),
            remedy=work.shorter,
        )
    own = {work.image_as: inside.image} if work.image_as else {}
    given = {**(inside.env or {}), ANSWER: answer, **own}
    return {
        "name": pods.MAIN,
        "image": inside.image,
        "command": ["python", "-m", work.module, words],
        "env": [{"name": name, "value": value} for name, value in given.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in inside.secrets],
    }


def failed(told: Mapping[str, Any], who: str) -> PipeOpsError | None:
    """Return what a container says has gone wrong, as the error that it has raised; ``None`` where nothing has. Pure.

    :param told: its answer.
    :param who: gave it, for the error.
    :return: the error.
    """
    if not text(told.get("error")):
        return None
    kind = getattr(exceptions, text(told.get("error")), PipeOpsError)
    known = isinstance(kind, type) and issubclass(kind, PipeOpsError)
    if not known or kind in (exceptions.MissingExtra, exceptions.NotConfigured):
        kind = PipeOpsError  # those are made of other words
    failure: PipeOpsError = kind(f"{who}: {text(told.get('message'))}")
    failure.retryable = bool(told.get("retryable"))
    return failure


def answered(work: Work, told: Mapping[str, Any], who: str) -> dict[str, Any]:
    """Return what a container has answered, or raise what it says has gone wrong. Pure.

    :param work: what was done.
    :param told: the answer.
    :param who: gave it, for the error.
    :return: the answer.
    :raises PipeOpsError: of the type that the container has raised.
    """
    if failure := failed(told, who):
        raise failure
    if not text(told.get(work.tells)):
        raise BadResponse(f"{who} does not say what became of its work", remedy="Its log says why.")
    return dict(told)


class KubernetesWork(KubernetesBackend):
    """Does it by a Job of Kubernetes, which whoever tries again finds.

    :param work: what is done.
    :param image: as for :class:`Surroundings`.
    :param secrets: as for :class:`Surroundings`.
    :param env: as for :class:`Surroundings`.
    :param options: as for :class:`~airflow_pipeops.build.cluster.backends.KubernetesBackend`.
    """

    def __init__(
        self,
        work: Work,
        *,
        image: str = "",
        secrets: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.work, self.what = work, work.what
        self.inside = Surroundings(image, secrets, env)

    def start(
        self, arguments: Mapping[str, Any], worker: Worker, timeout: timedelta
    ) -> dict[str, Any] | Waiting:
        """Begin, or find it begun.

        :param arguments: of the work.
        :param worker: what the task lends.
        :param timeout: for the work.
        :return: the answer, with ``image_ran``: what the cluster says that it ran, by digest; or what to wait for.
        """
        pod = self._pod(self.composed(arguments))

        async def work(client: KubernetesClient) -> dict[str, Any] | Waiting:
            ref = await self._begun(client, worker, pod, timeout)
            decided = await self._over(client, worker, ref, timeout)
            return decided if isinstance(decided, Waiting) else await self._ended(client, ref, decided)

        return self._run(work)

    def resume(self, worker: Worker, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on when the Job is over.

        :param worker: what the task lends.
        :param event: of the trigger.
        :return: the answer.
        """
        raise_error_of(event)
        ref = self._ref = JobRef.from_json(event["job"])

        async def work(client: KubernetesClient) -> dict[str, Any]:
            return await self._ended(client, ref, await self._resumed(client, worker, ref, event))

        return self._run(work)

    def composed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Compose the pod.

        :param arguments: of the work.
        :return: the manifest.
        """
        main = container(self.work, arguments, self.inside, pods.LAST_WORD)
        # The kubelet would take $(NAME) for a variable.
        main["command"] = [literal(word) for word in main["command"]]
        main["env"] = [{**one, "value": literal(one["value"])} for one in main["env"]]
        main |= {"terminationMessagePath": pods.LAST_WORD, "terminationMessagePolicy": "File"}
        return pods.composed(self.settings, main)

    async def _ended(self, client: KubernetesClient, ref: JobRef, decided: Decided) -> dict[str, Any]:
        there, who = await self._demand(client, ref, decided), f"Job {ref.namespace}/{ref.name}"
        end = there.end_of(pods.MAIN)
        if decided.verdict.rule == "too_long":
            raise PodFailed(f"{who} did not end within its time, and was stopped", remedy="Raise timeout.")
        told, code = map_(last_word(end.message if end else "")), end.code if end else None
        well = not code and bool(told.get(self.work.tells))
        if not well and told.get("retryable", True):
            await remove(client, ref)  # a retry would find it, and what it said
        if code and not told.get("error"):
            raise PodFailed(f"{who} ended with status {code}", remedy="Its log says why.")
        ran = there.image_of(pods.MAIN)
        return {**answered(self.work, told, who), **({"image_ran": ran} if ran else {})}


def workflow(
    work: Work, arguments: Mapping[str, Any], inside: Surroundings, timeout: timedelta
) -> dict[str, Any]:
    """Compose the workflow that does it. Pure.

    :param work: what is done.
    :param arguments: of the work.
    :param inside: what it is done in.
    :param timeout: for its pod.
    :return: the manifest.
    """
    main = container(work, arguments, inside, _ANSWER_FILE)
    # By a parameter: braces within a template are the engine's own.
    *command, words = main["command"]
    main["command"] = [*command, "{{inputs.parameters.arguments}}"]
    value = {"valueFrom": {"path": _ANSWER_FILE}, "globalName": OUTPUT}
    template = {
        "name": work.what,
        "inputs": {"parameters": [{"name": "arguments"}]},
        "outputs": {"parameters": [{"name": ANSWER_OF_NODE, **value}]},
        "container": {key: main[key] for key in main if key != "name"},
        # As the API's model has it: a number or a text.
        "activeDeadlineSeconds": str(int(timeout.total_seconds())),
    }
    given = {"parameters": [{"name": "arguments", "value": "{{workflow.parameters.arguments}}"}]}
    step = {"name": work.what, "template": work.what, "arguments": given}
    return {
        "metadata": {},
        "spec": {
            "entrypoint": "main",
            "arguments": {"parameters": [{"name": "arguments", "value": words}]},
            "templates": [{"name": "main", "steps": [[step]]}, template],
        },
    }
