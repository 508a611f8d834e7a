"""An evaluation: items by subjects by repetitions, asked and scored, as the rows of one table."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm import masking
from airflow_pipeops.llm.datasets.dataset import Dataset, Item
from airflow_pipeops.llm.evaluation.asking import Asked, Asker, BudgetSpent
from airflow_pipeops.llm.evaluation.client import Endpoint, Settings
from airflow_pipeops.llm.evaluation.pace import Prices
from airflow_pipeops.llm.evaluation.scorers.base import Case, Score, Scorer, Tools
from airflow_pipeops.llm.evaluation.scorers.judges import PairwiseJudge
from airflow_pipeops.llm.evaluation.scorers.referee import Referee
from airflow_pipeops.llm.evaluation.subjects import Subject
from airflow_pipeops.llm.prompts.leakage import leakage
from airflow_pipeops.llm.results import COLUMNS

#: Seconds between two lines about the progress.
_TELL = 15.0


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    :param dataset: all of it, whichever part is asked here.
    :param subjects: one for each arm; a baseline first.
    :param scorers: of different names.
    :param runs: how often each item is asked.
    :param shard: number of the part that is asked here, from 0.
    :param shards: how many parts there are.
    :param llm_conn_id: endpoint of whatever names none.
    :param allow_leaks: whether items may stand in a prompt.
    :param mask: whether secrets and personal data are masked in what is answered.
    :param apart: seconds between the answers of two arms to one item; an older one is asked for anew.
    """

    dataset: Dataset
    subjects: tuple[Subject, ...]
    scorers: tuple[Scorer, ...]
    runs: int = 1
    shard: int = 0
    shards: int = 1
    llm_conn_id: str = ""
    allow_leaks: bool = False
    mask: bool = True
    apart: float = 3600.0

    @property
    def items(self) -> tuple[Item, ...]:
        """Those of this part, in an order that has nothing to do with what they are."""
        return self.dataset.shard(self.shard, self.shards)

    @property
    def connections(self) -> list[str]:
        """The endpoints that are asked."""
        asking: list[Any] = [one for one in self.subjects if not one.recorded]
        asking += [one for one in self.scorers if one.asks]
        return list(dict.fromkeys(one.llm_conn_id or self.llm_conn_id for one in asking))

    def check(self) -> dict[str, str]:
        """Refuse what can be told before anything is spent.

        :return: arm -> whether its prompt quotes items: ``clean``, ``cannot tell``, or ``not compared``.
        :raises InvalidInput: naming what is wrong.
        """
        not_empty("subjects", self.subjects, "there is no subject", "Give a Subject for each arm.")
        not_empty("scorers", self.scorers, "there is no scorer", "For example scorers=[Exact()].")
        _distinct("subjects", [one.arm for one in self.subjects])
        _distinct("scorers", [one.name for one in self.scorers])
        for field_, value, least in (("runs", self.runs, 1), ("shards", self.shards, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInput(
                    f"{field_} is {value!r}", field=field_, value=value, remedy="Give 1 or more."
                )
        if not isinstance(self.shard, int) or not 0 <= self.shard < self.shards:
            raise InvalidInput(
                f"shard is {self.shard!r}",
                field="shard",
                value=self.shard,
                remedy=f"Give 0 to {self.shards - 1}.",
            )
        items = self.dataset.items
        self._check_items(items)
        self._check_masked(items)
        for scorer in self.scorers:
            scorer.check(items)
            if isinstance(scorer, PairwiseJudge):
                self.pair(scorer)
        found = {}
        for subject in self.subjects:
            found[subject.arm] = self._check_leaks(subject)
            for item in items:
                if subject.recorded:
                    _check_recorded(subject, item)
                else:
                    subject.body(item)
        return found

    def _check_masked(self, items: Sequence[Item]) -> None:
        if not self.mask or all(one.recorded for one in self.subjects):
            return
        for item in items:
            if kinds := [kind for one in item.texts_expected for kind in masking.found(one)]:
                raise InvalidInput(
                    f"item {item.id!r} expects what would be masked in an answer ({kinds[0]}): none could be right",
                    field="mask",
                    value=item.id,
                    remedy="Say mask=False, and keep the storage as you keep the data; or expect something invented.",
                )

    def _check_leaks(self, subject: Subject) -> str:
        if subject.recorded or self.allow_leaks or not hasattr(subject.prompt, "messages"):
            return "not compared"
        items = self.dataset.items
        if (found := leakage(subject.prompt, self.dataset.texts)).verdict == "leaks":
            first = found.leaks[0]
            raise InvalidInput(
                f"item {items[first.item].id!r} stands in the prompt of subject {subject.arm!r} by its {first.field!r}, "
                f"as do {len(found.leaks)} of {len(items)} items: its answer is given away",
                field="subjects",
                value=items[first.item].id,
                remedy="Take other examples into the prompt; or, where it is a common phrase, say allow_leaks=True.",
            )
        return found.verdict

    def _check_items(self, items: Sequence[Item]) -> None:
        names = {one.name for one in self.scorers}
        for item in items:
            if (
                unknown := []
                if isinstance(item.hard, bool)
                else [one for one in item.hard if one not in names]
            ):
                raise InvalidInput(
                    f"item {item.id!r} is hard by {unknown[0]!r}, and there is no such scorer",
                    field="dataset",
                    value=item.id,
                    remedy=f"There are {', '.join(map(repr, sorted(names)))}.",
                )
            if taken := [name for name in item.tags if name in COLUMNS or name == "split"]:
                raise InvalidInput(
                    f"item {item.id!r} has a tag {taken[0]!r}, which is a column of the results",
                    field="dataset",
                    value=taken[0],
                    remedy="Give it another name.",
                )

    def pair(self, judge: PairwiseJudge) -> tuple[str, str]:
        """Return the arms that a judge compares."""
        arms = [one.arm for one in self.subjects]
        found = tuple(judge.arms) or tuple(arms[:2])
        if len(found) != 2 or len(set(found)) != 2 or not set(found) <= set(arms):
            raise InvalidInput(
                f"the judge {judge.name!r} compares {', '.join(map(repr, found)) or 'nothing'}",
                field="arms",
                value=list(found),
                remedy=f"Name two of {', '.join(map(repr, arms))}.",
            )
        return found[0], found[1]

    def check_budget(self, prices: Prices, cost: float | None, tokens: float | None) -> None:
        """Refuse a budget that cannot be kept.

        :param prices: of the models.
        :param cost: at most.
        :param tokens: at most.
        :raises InvalidInput: for a model without a price, or an answer without a bound.
        """
        from airflow_pipeops.llm.evaluation.asking import bound

        if cost is None and tokens is None:
            return
        asked: list[tuple[str, str, Any]] = [
            (f"subject {one.arm!r}", one.model, one.parameters) for one in self.subjects if not one.recorded
        ]
        asked += [
            (f"scorer {one.name!r}", str(getattr(one, "model", "")), getattr(one, "parameters", None))
            for one in self.scorers
            if one.asks
        ]
        for what, model, parameters in asked:
            if cost is not None and not prices.known(model):
                raise InvalidInput(
                    f"the price of {model!r} is not known, and a cost budget is set",
                    field="prices",
                    value=model,
                    remedy=f'Give prices={{"{model}": {{"input": ..., "output": ...}}}}, or a budget of tokens.',
                )
            if parameters is not None and bound(parameters) is None:
                raise InvalidInput(
                    f"{what} may answer without end, and a budget is set",
                    field="parameters",
                    value=model,
                    remedy="Give max_tokens or max_completion_tokens among its parameters.",
                )


def _check_recorded(subject: Subject, item: Item) -> None:
    if not isinstance(item.inputs.get(subject.recorded), str):
        raise InvalidInput(
            f"item {item.id!r} has no recorded answer {subject.recorded!r}",
            field="dataset",
            value=item.id,
            remedy="Give it as a text among the item's inputs.",
        )
    said = item.tags.get("prompt_digest")
    if said and subject.prompt and said != subject.prompt.sha256:
        raise InvalidInput(
            f"item {item.id!r} was answered by the prompt {said[:12]}, and subject {subject.arm!r} has "
            f"{subject.prompt.sha256[:12]}",
            field="dataset",
            value=item.id,
            remedy="Take the calls of one prompt; or give the subject none.",
        )


def _distinct(field_: str, names: Sequence[str]) -> None:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InvalidInput(
            f"{field_} has {twice[0]!r} twice",
            field=field_,
            value=twice,
            remedy="Give each a name of its own.",
        )


@dataclass
class Found:
    """What an evaluation has found.

    :param rows: of the table.
    :param outcome: ``complete``; ``incomplete`` where scores are missing; ``budget`` where the budget ended it.
    :param facts: counts and sums.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    outcome: str = "complete"
    facts: dict[str, Any] = field(default_factory=dict)


async def evaluate(
    plan: Plan,
    settings: dict[str, Settings],
    asker_of: Callable[[dict[str, Endpoint]], Asker],
    tell: Callable[[str], None],
) -> Found:
    """Ask and score.

    :param plan: what.
    :param settings: connection -> its endpoint.
    :param asker_of: makes the asker of the endpoints, open.
    :param tell: says how far it is.
    :return: the rows, one for each item, arm, run and scorer, whatever became of it.
    :raises PipeOpsError: for what concerns all questions: a wrong key, no quota, an endpoint that is down. What is stored by
        then is found again.
    """
    async with AsyncExitStack() as stack:
        endpoints = {name: await stack.enter_async_context(Endpoint(one)) for name, one in settings.items()}
        asker = asker_of(endpoints)
        stack.push_async_callback(asker.close)
        referee = Referee()
        stack.callback(referee.close)
        return await _Work(plan, asker, Tools(asker, referee, plan.llm_conn_id), tell).all()


class _Work:
    def __init__(self, plan: Plan, asker: Asker, tools: Tools, tell: Callable[[str], None]) -> None:
        self._plan, self._asker, self._tools, self._tell = plan, asker, tools, tell
        self._done, self._told = 0, time.monotonic()
        self._masked: Counter[str] = Counter()
        self._flips = {one.name: (0, 0) for one in plan.scorers if isinstance(one, PairwiseJudge)}
        # Arms that are the same, as in a test of the gate itself, do not share their answers.
        self._sample: dict[str, int] = {}
        seen: list[str] = []
        for one in plan.subjects:
            self._sample[one.arm] = plan.runs * seen.count(one.sha256)
            seen.append(one.sha256)

    async def all(self) -> Found:
        units = [(item, run) for run in range(self._plan.runs) for item in self._plan.items]
        self._tell(
            f"{len(units)} questions of {len(self._plan.items)} items to {len(self._plan.subjects)} subjects, "
            f"shard {self._plan.shard + 1} of {self._plan.shards}"
        )
        begun = time.monotonic()
        waiting, rows, errors = iter(units), dict[int, list[dict[str, Any]]](), list[BaseException]()
        number = iter(range(len(units)))

        async def worker() -> None:
            for item, run in waiting:
                place = next(number)
                if errors:
                    return
                try:
                    rows[place] = await self._unit(item, run)
                except BaseException as error:
                    errors.append(error)
                    raise
                self._progress(len(units))

        workers = [asyncio.ensure_future(worker()) for _ in range(self._asker.parallel)]
        try:
            await asyncio.gather(*workers)
        finally:
            for one in workers:
                one.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        found = [row for place in sorted(rows) for row in rows[place]]
        return self._found(found, time.monotonic() - begun)

    def _progress(self, of: int) -> None:
        self._done += 1
        if self._done == of or time.monotonic() - self._told >= _TELL:
            self._told = time.monotonic()
            spent = self._asker.budget.spent
            self._tell(
                f"{self._done} of {of}: {self._asker.asked} answers asked for, {self._asker.found} found, "
                f"{spent.tokens:,} tokens, cost {spent.cost:.4f}"
            )

    async def _unit(self, item: Item, run: int) -> list[dict[str, Any]]:
        asked = await self._answers(self._plan.subjects, item, run)
        # One that was found may be of another day than its neighbour: what a provider has changed since then would be
        # charged to one of them. Each is asked anew once at most, whatever a clock says.
        for _ in self._plan.subjects:
            since = max(_times(asked), default=0.0) - self._plan.apart
            late = [one for one in self._plan.subjects if any(at < since for at in _times(asked, one.arm))]
            asked |= await self._answers(late, item, run, since)
        tools = replace(self._tools, since=min(_times(asked), default=0.0) - self._plan.apart)
        cases = {
            arm: Case(item, arm, run, one.answer.text, one.answer.masked)
            for arm, one in asked.items()
            if one.answer is not None
        }
        for case in cases.values():
            self._masked.update(case.masked)
        rows = []
        for scorer in self._plan.scorers:
            scores = await self._scores(scorer, cases, tools)
            for arm, one in asked.items():
                if arm in scores or not isinstance(scorer, PairwiseJudge):
                    rows.append(self._row(item, run, arm, one, scorer, scores.get(arm)))
        return rows

    async def _answers(
        self, subjects: Sequence[Subject], item: Item, run: int, since: float = 0.0
    ) -> dict[str, Asked]:
        found = await asyncio.gather(*(self._answer(one, item, run, since) for one in subjects))
        return dict(zip([one.arm for one in subjects], found, strict=True))

    async def _answer(self, subject: Subject, item: Item, run: int, since: float) -> Asked:
        if subject.recorded:
            from airflow_pipeops.llm.evaluation.client import Answer

            return Asked(Answer(str(item.inputs[subject.recorded])))
        try:
            return await self._asker.ask(
                subject.llm_conn_id or self._plan.llm_conn_id,
                "/chat/completions",
                subject.body(item),
                self._sample[subject.arm] + run,
                since,
            )
        except BudgetSpent as error:
            return Asked(error=f"not asked: {error}")

    async def _scores(self, scorer: Scorer, cases: dict[str, Case], tools: Tools) -> dict[str, Score]:
        if not isinstance(scorer, PairwiseJudge):
            found = await asyncio.gather(*(self._score(scorer, case, tools) for case in cases.values()))
            return dict(zip(cases, found, strict=True))
        first, second = self._plan.pair(scorer)
        missing = [arm for arm in (first, second) if arm not in cases]
        if missing:
            score = Score(error=f"{missing[0]} has not answered")
        else:
            try:
                score = await scorer.compare(cases[first], cases[second], tools)
            except BudgetSpent as error:
                score = Score(error=f"not judged: {error}")
        flipped, pairs = self._flips[scorer.name]
        self._flips[scorer.name] = flipped + score.flips[0], pairs + score.flips[1]
        if score.value is None:
            return {first: score, second: score}
        other = {"win": "loss", "loss": "win"}.get(score.label or "", "tie")
        return {first: Score(1.0 - score.value, other), second: score}

    async def _score(self, scorer: Scorer, case: Case, tools: Tools) -> Score:
        # What was taken out may be what is looked for, or what must not be there.
        if case.masked and not scorer.asks:
            kinds = ", ".join(sorted(case.masked))
            said = f"cannot tell: {kinds} was masked in the answer; mask=False scores it as it came"
            return Score(error=said)
        try:
            return await scorer.score(case, tools)
        except BudgetSpent as error:
            return Score(error=f"not judged: {error}")

    def _row(
        self, item: Item, run: int, arm: str, asked: Asked, scorer: Scorer, score: Score | None
    ) -> dict[str, Any]:
        answer = asked.answer
        score = score or Score(error=asked.error)
        return {
            "item": item.id,
            "cluster": item.cluster or None,
            "arm": arm,
            "run": run,
            "scorer": scorer.name,
            "value": score.value,
            "label": score.label or None,
            "hard": scorer.hard or item.is_hard(scorer.name),
            "error": score.error or None,
            "cost": asked.cost,
            "tokens_in": answer.tokens_in if answer else None,
            "tokens_out": answer.tokens_out if answer else None,
            "latency": (answer.seconds or None) if answer else None,
            "output_digest": hashlib.sha256(answer.text.encode()).hexdigest() if answer else None,
            "system": (f"{answer.model} {answer.fingerprint}".strip() or None) if answer else None,
            "at": (answer.at or None) if answer else None,
            **({"split": item.split} if item.split else {}),
            **item.tags,
        }

    def _found(self, rows: list[dict[str, Any]], seconds: float) -> Found:
        missing = sum(row["value"] is None for row in rows)
        spent = self._asker.budget.spent
        outcome = "budget" if self._asker.stopped else "incomplete" if missing else "complete"
        facts = {
            "scores": len(rows),
            "missing": missing,
            "asked": self._asker.asked,
            "found": self._asker.found,
            "calls": self._asker.calls,
            "cost": round(spent.cost, 9),
            "tokens": spent.tokens,
            "masked": dict(sorted(self._masked.items())),
            "flips": {name: list(flips) for name, flips in self._flips.items()},
            "seconds": round(seconds, 3),
        }
        return Found(rows, outcome, facts)


def _times(asked: Mapping[str, Asked], arm: str = "") -> list[float]:
    """Return when answers were given, of one arm or of all; those that were recorded elsewhere do not say."""
    found = [one.answer for name, one in asked.items() if arm in ("", name)]
    return [answer.at for answer in found if answer is not None and answer.at]
