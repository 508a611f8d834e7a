"""Evaluations as tasks: asked and scored, put together from shards, or imported from another tool's file."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from airflow_pipeops.base.arguments import (
    at_least,
    flag,
    instance_of,
    mapping,
    not_empty,
    one_of,
    one_or_more,
    positive,
    read_at_least,
)
from airflow_pipeops.base.documents import map_
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry, order_key
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm import results
from airflow_pipeops.llm.evaluation.scorers.base import Scorer

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Asset, Context

    from airflow_pipeops.llm.evaluation.asking import Asker
    from airflow_pipeops.llm.evaluation.client import Settings
    from airflow_pipeops.llm.evaluation.run import Found, Plan

#: Tools whose files are read.
Source = Literal["promptfoo", "deepeval", "evidently"]
_SOURCES: tuple[Source, ...] = ("promptfoo", "deepeval", "evidently")
_COLOR = "#e6f7ee"


@runtime_checkable
class Gate(Protocol):
    """What will judge an evaluation, and can say beforehand what it would refuse."""

    def assets(self, task: DeliveryOperator) -> list[Asset]:
        """Name what must be among the inlets of the task that evaluates."""

    def check(
        self, task: DeliveryOperator, context: Context, planned: Mapping[str, Any], unpriced: Sequence[str]
    ) -> None:
        """Refuse what could open no gate."""


class _Evaluation(DeliveryOperator):
    """What all of them do with a table of results."""

    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = _COLOR

    def _kept(
        self, context: Context, frame: pd.DataFrame, outcome: str, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keep the table as evidence, and record its digests and counts."""
        content = results.to_bytes(frame)
        evidence = self.keep(context, content, results.FILE, results.MEDIA_TYPE)
        missing = int(frame["value"].isna().sum())
        self.log.info("%s: %d scores, %d missing; %s", outcome, len(frame), missing, evidence.uri)
        body = {
            "subject": "prompts",
            "outcome": outcome,
            "reason": _reason(outcome, len(frame), missing),
            "items": int(frame["item"].nunique()),
            "scores": len(frame),
            "missing": missing,
            "results_sha256": evidence.sha256,
            "answers": results.answered(frame),
            **facts,
        }
        record_id = self.emit(context, "evaluation", body, evidence=[evidence])
        return {**body, "results": evidence.uri, "record_id": record_id}


def _reason(outcome: str, scores: int, missing: int) -> str:
    if outcome == "budget":
        return f"the budget ended it: {missing} of {scores} scores are missing, and nothing is said about quality"
    return f"{missing} of {scores} scores are missing" if missing else f"all {scores} scores are there"


class EvaluateOperator(_Evaluation):
    """Ask subjects about the items of a dataset, score what they answer, and keep the scores as one table.

    An answer is stored before it counts, by the content of its question and the number of its repetition: a retry, and a
    later evaluation that asks the same, finds it. A worker that is killed loses at most the calls that are under way; they
    are asked again. With a budget, they count at the most that they can have cost, so that it is never exceeded.

    Returns ``{results, results_sha256, outcome, reason, dataset, dataset_sha256, items, arms, models, scorers, judges,
    leakage, runs, scores, missing, answers, asked, found, calls, cost, tokens, masked, flips, shard, shards, record_id}``.
    ``outcome`` is ``complete``; ``incomplete``, where scores are missing after all tries; ``budget``, where the budget ended
    it. ``arms`` and ``scorers`` name digests; ``judges`` are those scorers that are the opinion of a model, and ``flips``
    says of each that compares pairs how many the swap has turned, and of how many; ``answers`` says of each arm when its
    answers were given, and by which systems; ``leakage`` whether its prompt quotes items, or nobody can tell.

    In parts, expand it: ``EvaluateOperator.partial(shards=8, ...).expand(shard=list(range(8)))``, and put them together with
    ``MergeEvaluationsOperator``. Limits of rate and budget are for all shards together.

    :param dataset: URI of a ``.jsonl`` or ``.parquet`` file; templated. See ``docs/evaluation.md`` for its fields.
    :param subjects: a ``Subject``, or a mapping of its fields, for each arm, the baseline first. The prompt in a mapping may
        be what another task returned: ``{"arm": "candidate", "prompt": read.output}``.
    :param scorers: what scores the answers.
    :param llm_conn_id: connection of the endpoint, for whatever names none.
    :param dataset_sha256: that the dataset must have, so that another one is refused; templated.
    :param split: name, or names, of the splits that are evaluated; all by default.
    :param runs: how often each item is asked.
    :param shard: number of the part that is evaluated, from 0; templated.
    :param shards: how many parts there are.
    :param parallel: calls at a time.
    :param requests_per_minute: at most.
    :param tokens_per_minute: at most, of questions and answers.
    :param max_cost: budget, in the currency of the prices. Every model needs a price, and every subject ``max_tokens``.
    :param max_tokens: budget, of questions and answers.
    :param prices: model -> ``{"input": ..., "output": ...}``, for a million tokens each.
    :param tries: of one call, on 429, 5xx, and what is no whole answer.
    :param max_age: of a stored answer that is used again; an older one is asked for anew, since providers change.
    :param apart: at most so long lie the answers of two arms to one item from each other; the older one, found in the store,
        is asked for anew, since what a provider changes must meet both.
    :param allow_leaks: whether texts of items may stand in a prompt; by default not, since that gives answers away.
    :param mask: whether secrets and personal data are masked in an answer before it is stored and judged, as
        ``SampleTracesOperator`` does; see ``docs/evaluation.md``. Otherwise keep the storage as you keep the data.
    :param storage_conn_id: where answers are kept; connection of type ``pipeops_storage``.
    :param data_conn_id: connection of type ``pipeops_storage`` for a dataset that needs credentials, or whose name is
        relative.
    :param gate: :class:`~airflow_pipeops.llm.gate.before.HeldAgainst` with the policy of the gate that will read the
        evaluation: what it would refuse is refused before anything is asked; give ``deliverable`` and ``environment``.
    :raises AccessDenied: for a wrong key, and an account without quota.
    :raises Unreachable: if the endpoint is down; a retry goes on where it was.
    """

    template_fields: Sequence[str] = (
        "dataset",
        "subjects",
        "dataset_sha256",
        "shard",
        *DeliveryOperator.template_fields,
    )

    def __init__(
        self,
        *,
        dataset: str,
        subjects: Sequence[Any],
        scorers: Sequence[Scorer],
        llm_conn_id: str = "pydanticai_default",
        dataset_sha256: str = "",
        split: str | Sequence[str] = (),
        runs: int = 1,
        shard: int = 0,
        shards: int = 1,
        parallel: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_cost: float | None = None,
        max_tokens: float | None = None,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        tries: int = 5,
        max_age: timedelta = timedelta(days=7),
        apart: timedelta = timedelta(hours=1),
        allow_leaks: bool = False,
        mask: bool = True,
        storage_conn_id: str = "pipeops_artifacts",
        data_conn_id: str = "",
        gate: Gate | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gate = gate
        if gate is not None:
            # mypy knows no way to say: any class that fits the protocol.
            instance_of("gate", gate, Gate, "Give HeldAgainst(policy).")  # type: ignore[type-abstract]
            needed = gate.assets(self)
            self.inlets = [*self.inlets, *(one for one in needed if one not in self.inlets)]
        self.dataset = dataset
        # Airflow would fill in the braces of a prompt that stands here; what comes from another task it leaves as it is.
        self.subjects = (
            [_finished(one) for one in subjects] if isinstance(subjects, (list, tuple)) else subjects
        )
        self.scorers = one_or_more("scorers", scorers, Scorer)
        self.llm_conn_id = llm_conn_id
        self.dataset_sha256 = dataset_sha256
        self.split = one_or_more("split", split or (), str)
        self.runs = runs
        self.shard = shard
        self.shards = shards
        self.parallel = parallel
        if not isinstance(parallel, int) or not 1 <= parallel <= 64:
            raise InvalidInput(
                f"parallel is {parallel!r}", field="parallel", value=parallel, remedy="Give 1 to 64."
            )
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.max_cost = max_cost
        self.max_tokens = max_tokens
        self.prices = prices
        self.tries = at_least("tries", tries, 1, f"tries is {tries!r}", "Ask at least once.")
        self.max_age = positive("max_age", max_age)
        self.apart = positive("apart", apart)
        self.allow_leaks = allow_leaks
        self.mask = flag("mask", mask)
        self.storage_conn_id = storage_conn_id
        self.data_conn_id = data_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Check all that can be, then ask."""
        from airflow_pipeops.llm.evaluation.hook import settings_of
        from airflow_pipeops.llm.evaluation.pace import Prices
        from airflow_pipeops.llm.evaluation.run import evaluate
        from airflow_pipeops.llm.evaluation.scorers.judges import Judge, PairwiseJudge

        with no_retry():
            plan, prices = self._plan(), Prices(self.prices)
            leakage = plan.check()
            if untold := [arm for arm, verdict in leakage.items() if verdict == "cannot tell"]:
                self.log.warning("Nobody can tell whether %s quotes items: their texts are short", untold)
            plan.check_budget(prices, self.max_cost, self.max_tokens)
            planned = {
                "dataset": plan.dataset.name,
                "dataset_sha256": plan.dataset.sha256,
                "arms": {one.arm: one.sha256 for one in plan.subjects},
                "models": {one.arm: one.model for one in plan.subjects},
                "scorers": {one.name: one.sha256 for one in plan.scorers},
                "judges": [one.name for one in plan.scorers if isinstance(one, Judge)],
                "leakage": leakage,
                "runs": plan.runs,
                "shard": plan.shard,
                "shards": plan.shards,
                "flips": {one.name: [0, 0] for one in plan.scorers if isinstance(one, PairwiseJudge)},
            }
            if self.gate is not None:
                models = [one.model for one in plan.subjects if not one.recorded]
                unpriced = [one for one in models if not prices.known(one)]
                self.gate.check(self, context, planned, unpriced)
            settings: dict[str, Settings] = {name: settings_of(name) for name in plan.connections}
            asker_of = partial(self._asker, context, plan, prices)
            found: Found = asyncio.run(evaluate(plan, settings, asker_of, partial(self.log.info, "%s")))
            counts = {name: value for name, value in found.facts.items() if name not in ("scores", "missing")}
            return self._kept(context, results.table(found.rows), found.outcome, {**planned, **counts})

    def _plan(self) -> Plan:
        from airflow_pipeops.llm.datasets.reading import read
        from airflow_pipeops.llm.evaluation.run import Plan
        from airflow_pipeops.llm.evaluation.subjects import Subject

        dataset = read(self.dataset, storage_conn_id=self.data_conn_id or None)
        if self.dataset_sha256 and dataset.sha256 != self.dataset_sha256:
            raise InvalidInput(
                f"the dataset {dataset.name} has the digest {dataset.sha256[:12]}, and {self.dataset_sha256[:12]} is wanted",
                field="dataset",
                value=dataset.sha256,
                remedy="Scores of another dataset are no comparison: evaluate the baseline on it, too.",
            )
        return Plan(
            dataset=dataset.split(*self.split),
            subjects=tuple(Subject.of(one) for one in self.subjects),
            scorers=self.scorers,
            runs=self.runs,
            shard=read_at_least(
                "shard", self.shard, 0, f"shard is {self.shard!r}", "Give its number, from 0."
            ),
            shards=self.shards,
            llm_conn_id=self.llm_conn_id,
            allow_leaks=self.allow_leaks,
            mask=self.mask,
            apart=self.apart.total_seconds(),
        )

    def _asker(self, context: Context, plan: Plan, prices: Any, endpoints: Any) -> Asker:
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.llm.evaluation.asking import Answers, Asker, Expenses
        from airflow_pipeops.llm.evaluation.pace import Budget, Pace

        root = StorageHook(self.storage_conn_id).get_conn() / "evaluations"
        order = hashlib.sha256(order_key(context).encode()).hexdigest()[:32]

        def part(limit: float | None) -> float | None:
            return None if limit is None else limit / plan.shards

        return Asker(
            endpoints,
            Answers(root / "answers", self.max_age, self.mask),
            expenses=Expenses(root / "expenses" / order),
            pace=Pace(part(self.requests_per_minute), part(self.tokens_per_minute)),
            budget=Budget(part(self.max_cost), part(self.max_tokens)),
            prices=prices,
            parallel=self.parallel,
            tries=self.tries,
        )


def _finished(given: Any) -> Any:
    from airflow_pipeops.llm.evaluation.subjects import Subject

    plain = isinstance(given, Mapping) and isinstance(given.get("prompt", ""), (str, list, tuple))
    return Subject.of(given) if plain else given


class MergeEvaluationsOperator(_Evaluation):
    """Put the shards of an evaluation together; one that is absent, or of another evaluation, is refused by name.

    Or put whole evaluations of different arms beside each other, such as two files that were imported; those of other items
    or scorers are refused.

    Returns what ``EvaluateOperator`` does, for all of them.

    :param evaluations: what the shards returned: ``shards.output``; or a list of evaluations; templated.
    """

    template_fields: Sequence[str] = ("evaluations", *DeliveryOperator.template_fields)

    def __init__(self, *, evaluations: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluations = evaluations

    def execute(self, context: Context) -> dict[str, Any]:
        """Check that they belong together, and add them up."""
        import pandas as pd

        with no_retry():
            parts = [mapping("evaluations", one, "Pass shards.output.") for one in self.evaluations]
            whole = len(parts) > 1 and all(one.get("shards") == 1 for one in parts)
            parts, same = beside(parts) if whole else together(parts)
            frames = [results.load(one["results"], one["results_sha256"]) for one in parts]
            frame = results.checked(pd.concat(frames, ignore_index=True)).sort_values(
                list(results.KEY), ignore_index=True
            )
            sums = {
                name: sum(one.get(name, 0) for one in parts)
                for name in ("asked", "found", "calls", "cost", "tokens")
            }
            flips = [(name, flip) for one in parts for name, flip in one.get("flips", {}).items()]
            sums["flips"] = {
                name: [sum(flip[side] for each, flip in flips if each == name) for side in (0, 1)]
                for name in dict(flips)
            }
            sums["masked"] = dict(sum((Counter(one.get("masked", {})) for one in parts), Counter[str]()))
            worst = next(
                (word for word in ("budget", "incomplete") if any(one["outcome"] == word for one in parts)),
                "complete",
            )
            self.parents = [*self.parents, *(one.get("record_id") for one in parts)]
            return self._kept(context, frame, worst, {**same, **sums, "shard": 0, "shards": 1})


#: What shards of one evaluation have in common.
_SAME = ("dataset", "dataset_sha256", "arms", "models", "scorers", "judges", "leakage", "runs")


def beside(parts: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Return whole evaluations of different arms, and what they say together. Pure.

    :param parts: what they returned.
    :return: each of them; and the facts about them all.
    :raises InvalidInput: if an arm is there twice, or if items or scorers differ.
    """
    first: dict[str, Any] = {
        name: parts[0][name] for name in ("dataset", "dataset_sha256") if name in parts[0]
    }
    found: dict[str, Any] = {"arms": {}, "models": {}, "scorers": {}, "leakage": {}}
    for place, one in enumerate(parts):
        scorers = map_(one.get("scorers"))
        differing = [
            *(["dataset_sha256"] if one.get("dataset_sha256") != first.get("dataset_sha256") else []),
            *(
                f"scorers[{name}]"
                for name in scorers
                if found["scorers"].get(name, scorers[name]) != scorers[name]
            ),
        ]
        twice = [arm for arm in map_(one.get("arms")) if arm in found["arms"]]
        if differing or twice:
            said = f"have both the arm {twice[0]!r}" if twice else f"differ in {differing[0]}"
            raise InvalidInput(
                f"evaluations 0 and {place} are no comparison: they {said}",
                field="evaluations",
                value=differing or twice,
                remedy="Evaluate arms of different names on the same items, by the same scorers and tool.",
            )
        for name, known in found.items():
            known |= map_(one.get(name))
    judges = dict.fromkeys(name for one in parts for name in one.get("judges") or ())
    runs = min(int(one.get("runs") or 1) for one in parts)
    return list(parts), {**first, **found, "judges": list(judges), "runs": runs}


def together(parts: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Return the shards of one evaluation in their order, and what they have in common. Pure.

    :param parts: what they returned.
    :return: each of them, once; and the facts that they share.
    :raises InvalidInput: if they are of several evaluations, or not all there.
    """
    not_empty("evaluations", parts, "there is no evaluation", "Pass shards.output.")
    first = parts[0]
    for one in parts:
        not_empty(
            "evaluations",
            {"shard", "shards"} <= one.keys(),
            "one of the evaluations is no shard",
            "Pass shards.output of EvaluateOperator, mapped over its shards.",
        )
        if differing := [name for name in (*_SAME, "shards") if one.get(name) != first.get(name)]:
            raise InvalidInput(
                f"shards {first.get('shard')} and {one.get('shard')} are of two evaluations: they differ in {differing[0]}",
                field="evaluations",
                value=differing,
                remedy="Map one task over all shards.",
            )
    numbers = sorted(int(one["shard"]) for one in parts)
    if numbers != list(range(int(first["shards"]))):
        raise InvalidInput(
            f"of {first['shards']} shards there are {', '.join(map(str, numbers))}",
            field="evaluations",
            value=numbers,
            remedy="Let each shard run, once.",
        )
    same = {name: first[name] for name in _SAME if name in first}
    return sorted(parts, key=lambda one: int(one["shard"])), same


class ImportEvaluationOperator(_Evaluation):
    """Take over what promptfoo, DeepEval or Evidently have found, from their files, into the same table.

    Returns ``{results, results_sha256, outcome, reason, source, file_sha256, version, dataset_sha256, items, arms, models,
    scorers, judges, runs, scores, missing, answers, flips, shard, shards, record_id}``, which a gate reads. What each item
    asks is digested with how it is judged, as far as the file says so; a scorer is the tool, its version, the metric and its
    judge. Two files of one arm each are put together by ``MergeEvaluationsOperator``.

    :param source: ``promptfoo``; ``deepeval``; or ``evidently``, for a Parquet or CSV file of its dataset with descriptors,
        or of any other tool that writes a row for each answer.
    :param file: URI of the file; of promptfoo what ``--output results.json`` wrote, of DeepEval its test run; templated.
    :param arm: that was evaluated; of promptfoo, empty for a name of each provider and prompt; templated.
    :param scores: of ``evidently``: columns that are scores.
    :param item: of ``evidently``: column, or columns, that say which item it is.
    :param cluster: of ``evidently``: column of the clusters.
    :param subject: digest of what answered, such as that of the prompt, by which a gate tells whether it is what is
        released; templated. By default that of what promptfoo says of provider and prompt; of others that of the file.
    :param at: when it was answered, in ISO 8601; templated. By default what promptfoo says; else nobody knows, and a gate
        holds no later answers against these.
    :param data_conn_id: connection of type ``pipeops_storage`` for a file that needs credentials, or has a relative name.
    """

    template_fields: Sequence[str] = ("file", "arm", "subject", "at", *DeliveryOperator.template_fields)

    def __init__(
        self,
        *,
        source: Source,
        file: str,
        arm: str = "",
        scores: Sequence[str] = (),
        item: str | Sequence[str] = (),
        cluster: str = "",
        subject: str = "",
        at: str = "",
        data_conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.subject = subject
        self.at = at
        self.source: Source = one_of("source", source, _SOURCES)
        self.file = file
        self.arm = arm
        self.scores = one_or_more("scores", scores, str)
        self.item = one_or_more("item", item or (), str)
        self.cluster = cluster
        self.data_conn_id = data_conn_id
        if source == "evidently":
            not_empty("scores", self.scores, "no column is named as a score", "Name the descriptors.")
            not_empty("item", self.item, "no column says which item it is", "Name it, or several.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the file."""
        from airflow_pipeops.base.tables import content_of, read
        from airflow_pipeops.llm.datasets.reading import FILE_BYTES
        from airflow_pipeops.llm.evaluation import imports
        from airflow_pipeops.models.operators.arguments import moment

        with no_retry():
            if self.source == "evidently":
                table = read(self.file, field="file", storage_conn_id=self.data_conn_id or None)
                arm, digest = self.arm or "candidate", table.digest
                said = imports.of_frame(
                    table.frame, self.scores, item=self.item, arm=arm, cluster=self.cluster
                )
            else:
                content = content_of(self.file, "file", self.data_conn_id or None, most=FILE_BYTES)
                named = {"arm": self.arm} if self.arm else {}
                said = imports.READERS[self.source](content, **named)
                digest = hashlib.sha256(content).hexdigest()
            frame = results.table(said.rows)
            if (at := moment("at", self.at)) is not None:
                frame["at"] = (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
            outcome = "incomplete" if frame["value"].isna().any() else "complete"
            facts = {"source": self.source, "file_sha256": digest, "version": said.version}
            facts |= said.facts(self.source, digest, self.subject)
            return self._kept(context, frame, outcome, facts)
