"""Ask an endpoint its pinned probes again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import at_least, mapping, share
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import BadResponse, InvalidInput, Unreachable
from airflow_pipeops.llm.production.provider import LEAST_RUNS
from airflow_pipeops.models.operators.arguments import UI_COLOR, storage_root

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.llm.datasets.dataset import Dataset
    from airflow_pipeops.llm.evaluation.client import Answer, Settings
    from airflow_pipeops.llm.evaluation.subjects import Subject
    from airflow_pipeops.llm.production.provider import Again, Pin

#: Calls at once, and tries of each.
_AT_ONCE, _TRIES = 4, 4
#: Probes: a watch is no evaluation.
_MOST = 1000


class ProviderDriftOperator(DeliveryOperator):
    """Notice that the model behind an endpoint has changed: ask pinned probes again, and compare the answers.

    Without ``pinned`` each probe is asked ``runs`` times, and digests of the answers are stored: that is the pin, and its
    verdict ``pinned``. With it each is asked once, and chance decides, by how steady the pinned answers are: see
    ``docs/llm-production.md``. No text of an answer is kept.

    Returns ``{verdict, drifted, reason, pinned, probes, strange, expected, chance, which, record_id}``; ``verdict`` is
    ``pinned``, ``changed``, ``no change`` or ``cannot tell``.

    :param probes: a dataset, ``.jsonl`` or ``.parquet``, with an ``id`` and the inputs of the prompt; templated.
    :param model: as the endpoint calls it.
    :param prompt: a text or messages with ``{{name}}`` for the inputs of a probe. Not templated.
    :param pinned: ``{"uri", "sha256"}`` of the pin, as an earlier run has returned it; templated. Empty to pin.
    :param runs: answers of a probe that are pinned, two or more; five let few probes tell.
    :param parameters: of the call.
    :param alpha: chance of a false alarm of one look.
    :param llm_conn_id: connection of the endpoint.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :param artifacts_conn_id: where the pin is kept.
    """

    template_fields: Sequence[str] = ("probes", "pinned", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("drift",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        probes: str,
        model: str,
        prompt: str | Sequence[Mapping[str, str]] = "{{input}}",
        pinned: Any = None,
        runs: int = 5,
        parameters: Mapping[str, Any] | None = None,
        alpha: float = 1e-4,
        llm_conn_id: str = "pydanticai_default",
        storage_conn_id: str | None = None,
        artifacts_conn_id: str = "pipeops_artifacts",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.probes = probes
        self.model, self.prompt = model, prompt
        given = mapping("parameters", parameters or {}, "Give {name: value}.")
        self.parameters = {"temperature": 0, "max_tokens": 200, **given}
        self.pinned = pinned
        self.runs = at_least("runs", runs, LEAST_RUNS, f"runs is {runs}", f"Use {LEAST_RUNS} or more.")
        self.alpha = share("alpha", alpha, "For example 0.0001.")
        if alpha >= 0.5:
            raise InvalidInput(f"alpha is {alpha}", field="alpha", value=alpha, remedy="For example 0.0001.")
        self.llm_conn_id = llm_conn_id
        self.storage_conn_id = storage_conn_id
        self.artifacts_conn_id = artifacts_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, judge or pin, record."""
        from airflow_pipeops.llm.datasets.reading import read
        from airflow_pipeops.llm.evaluation.hook import settings_of
        from airflow_pipeops.llm.evaluation.subjects import Subject
        from airflow_pipeops.llm.production import provider

        with no_retry():
            dataset = read(self.probes, storage_conn_id=self.storage_conn_id)
            if len(dataset.items) > _MOST:
                raise InvalidInput(
                    f"{len(dataset.items):,} probes are more than {_MOST:,}",
                    field="probes",
                    remedy="Draw some.",
                )
            subject = Subject("probe", self.prompt, self.model, self.parameters)
            asked = sha256(f"{subject.sha256} {dataset.sha256}".encode()).hexdigest()
            settings = settings_of(self.llm_conn_id)
            pin, where = self._pin(asked)
            if pin is None:
                pin, where = self._pinned(asyncio.run(ask(settings, subject, dataset, self.runs)), asked)
                facts = {"verdict": "pinned", "reason": f"{len(pin.answers)} probes were pinned."}
                drifted = None
            else:
                found = provider.judge(
                    pin, _again(asyncio.run(ask(settings, subject, dataset, 1))), self.alpha
                )
                facts = found.to_json()
                drifted = {"changed": True, "no change": False}.get(found.verdict)
            self.log.info("%s: %s", facts["verdict"], facts["reason"])
            body = {**facts, "drifted": drifted, "pinned": where, "model": self.model}
            record = self.emit(context, "drift", {"subject": "provider", "batch": self.model, **body})
        return {**body, "record_id": record}

    def _pin(self, asked: str) -> tuple[Pin | None, dict[str, str]]:
        from airflow_pipeops.base.documents import map_, parsed, text
        from airflow_pipeops.llm.production.provider import Pin
        from airflow_pipeops.models import storage

        if not self.pinned or self.pinned == "None":
            return None, {}
        uri, digest = text(map_(self.pinned).get("uri")), text(map_(self.pinned).get("sha256"))
        if not (uri and digest):
            raise InvalidInput(
                "pinned is not what an earlier run has returned",
                field="pinned",
                remedy='Give {"uri": ..., "sha256": ...}, or nothing to pin the probes.',
            )
        try:
            pin = Pin.from_json(parsed(storage.get(uri, digest)))
        except (ValueError, TypeError) as error:
            raise storage.bad_manifest(uri, str(error)) from error
        if pin.asked != asked:
            raise InvalidInput(
                "other probes, another prompt, model or parameters were pinned",
                field="pinned",
                value=uri,
                remedy="Pin again: run once without pinned.",
            )
        return pin, {"uri": uri, "sha256": digest}

    def _pinned(self, answers: Mapping[str, list[Answer]], asked: str) -> tuple[Pin, dict[str, str]]:
        from airflow_pipeops.llm.production.provider import Pin
        from airflow_pipeops.models import storage

        if lacking := [name for name, found in answers.items() if len(found) < self.runs]:
            raise Unreachable(f"{len(lacking)} of {len(answers)} probes were not answered {self.runs} times")
        flat = [one for found in answers.values() for one in found]
        if len(names := {one.model for one in flat}) > 1:
            raise BadResponse(f"the endpoint answers as several models: {', '.join(sorted(names))[:200]}")
        pin = Pin(
            self.model,
            flat[0].model,
            tuple(sorted({one.fingerprint for one in flat} - {""})),
            asked,
            {name: [_digest(one) for one in found] for name, found in sorted(answers.items())},
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        content = json.dumps(pin.to_json(), sort_keys=True).encode()
        path = storage_root(self.artifacts_conn_id) / "data" / storage.sha256(content) / "pin.json"
        storage.put(path, content)
        return pin, {"uri": storage.uri_of(path), "sha256": storage.sha256(content)}


async def ask(settings: Settings, subject: Subject, dataset: Dataset, runs: int) -> dict[str, list[Answer]]:
    """Ask each probe.

    :param settings: of the endpoint.
    :param subject: how.
    :param dataset: the probes.
    :param runs: how often.
    :return: probe -> its answers; fewer where the endpoint did not answer.
    :raises PipeOpsError: for what no other try mends, such as a wrong key.
    """
    from airflow_pipeops.base.retries import aretried
    from airflow_pipeops.llm.evaluation.client import Endpoint

    found: dict[str, list[Answer]] = {item.id: [] for item in dataset.items}
    bodies = [(item.id, subject.body(item)) for item in dataset.items]
    gate = asyncio.Semaphore(_AT_ONCE)
    async with Endpoint(settings) as endpoint:

        async def one(name: str, body: Mapping[str, Any]) -> None:
            async with gate:
                try:
                    found[name].append(
                        await aretried(lambda: endpoint.ask("/chat/completions", body), _TRIES)
                    )
                except (Unreachable, BadResponse):
                    return  # it is missing, and counted as that

        tasks = [asyncio.ensure_future(one(name, body)) for _ in range(runs) for name, body in bodies]
        try:
            await asyncio.gather(*tasks)
        finally:
            for each in tasks:
                each.cancel()
    return found


def _again(answers: Mapping[str, list[Answer]]) -> Again:
    from airflow_pipeops.llm.production.provider import Again

    flat = [one for found in answers.values() for one in found]
    return Again(
        flat[0].model if len({one.model for one in flat}) == 1 else "",
        tuple(sorted({one.fingerprint for one in flat} - {""})),
        {name: _digest(found[0]) for name, found in answers.items() if found},
    )


def _digest(answer: Answer) -> str:
    return sha256(f"{answer.finish}\0{answer.text}".encode("utf-8", "surrogatepass")).hexdigest()
