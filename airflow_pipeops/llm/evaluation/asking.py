"""Questions asked within limits, each once: answers are stored before they count, and found again by their content."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.base.files import write_whole
from airflow_pipeops.base.retries import jittered
from airflow_pipeops.exceptions import AccessDenied, BadResponse, NotFound, PipeOpsError, Unreachable
from airflow_pipeops.llm.datasets.dataset import digest
from airflow_pipeops.llm.evaluation.client import Answer, Endpoint, may_have_cost
from airflow_pipeops.llm.evaluation.pace import Budget, Pace, Prices, Spent, expected, most_in
from airflow_pipeops.llm.evaluation.subjects import BOUNDS
from airflow_pipeops.llm.masking import Masker

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: Seconds that a server may ask to be left alone within a task; beyond, the task ends, and its retry goes on.
PATIENCE = 120.0
#: So many questions in a row that nobody answers end the task: the endpoint is down, and no item is at fault.
IN_VAIN = 10
#: Bytes of a stored answer.
_STORED = 16 * 1024**2
#: Seconds that calls have to come to their end, when all ends.
_LAST = 30.0


class BudgetSpent(Exception):
    """The next call would exceed the budget."""


@dataclass(frozen=True)
class Asked:
    """What became of a question.

    :param answer: ``None`` where there is none.
    :param error: why.
    :param cost: of the answer; ``None`` where price or usage are not known.
    """

    answer: Answer | None = None
    error: str = ""
    cost: float | None = None


class Answers:
    """Answers in a folder or an object store, by the content of what was asked.

    :param root: of the store.
    :param max_age: of an answer that is used again; ``None`` for any.
    :param mask: whether secrets and personal data are taken out of an answer before it is stored, and before it counts: an
        answer that is found again must be the one that was scored.
    """

    def __init__(self, root: ObjectStoragePath, max_age: timedelta | None = None, mask: bool = True) -> None:
        self._root = root
        self._max_age = max_age.total_seconds() if max_age is not None else None
        self.mask = mask

    @staticmethod
    def key(url: str, path: str, body: Mapping[str, Any], sample: int) -> str:
        """Name the answer to a question.

        :param url: of the endpoint.
        :param path: of the call.
        :param body: of the call.
        :param sample: number of the repetition.
        :return: the name.
        """
        return digest({"url": url, "path": path, "body": body, "sample": sample}, "subjects", "a question")

    def get(self, key: str, now: float, since: float = 0.0) -> Answer | None:
        """Read an answer; one that is damaged, or too old, is none, nor is one that was masked and should not be.

        :param key: its name.
        :param now: the time, in seconds since 1970.
        :param since: from when on it must be.
        :return: the answer, if there is one.
        """
        found = self._stored(key)
        if (
            found is None
            or found.at < since
            or (self._max_age is not None and now - found.at > self._max_age)
        ):
            return None
        if not self.mask:
            return None if found.masked else found
        return found if self._safe(found) == found else self.put(key, found)

    def call(self, key: str) -> str:
        """Name the call for an answer, the same for each try of it.

        An endpoint that remembers calls by name would give what is stored, and not wanted any more, as if it were new.

        :param key: name of the answer.
        :return: the name of the call.
        """
        found = self._stored(key)
        return key if found is None else f"{key}-{found.at:.0f}"

    def _stored(self, key: str) -> Answer | None:
        try:
            return Answer.from_json(parsed(self._path(key).read_bytes(), _STORED))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def put(self, key: str, answer: Answer) -> Answer:
        """Store an answer, whole or not at all.

        :param key: its name.
        :param answer: as it came.
        :return: as it is stored.
        """
        safe = self._safe(answer)
        write_whole(self._path(key), json.dumps(safe.to_json()).encode())
        return safe

    def _safe(self, answer: Answer) -> Answer:
        masker = Masker()
        text = masker.text(answer.text) if self.mask else answer.text
        if text == answer.text:
            return answer
        return replace(answer, text=text, masked=dict(Counter(answer.masked) + masker.counts))

    def _path(self, key: str) -> ObjectStoragePath:
        return self._root / key[:2] / f"{key}.json"


class Expenses:
    """What an evaluation has spent, kept where it survives whoever spends it.

    Each call is noted before it is made, by the most that it can cost, and afterwards by what it has cost. Of a process that
    was killed, the calls that were under way stay noted by the most.

    :param folder: of this evaluation alone, the same for each attempt.
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        self._folder = folder

    def total(self) -> Spent:
        """Add up what is noted."""
        total = Spent()
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if not path.name.startswith("."):  # one that is not yet whole
                _, tokens, cost = path.name.rsplit("_", 2)
                total += Spent(float(cost), int(tokens))
        return total

    def note(self, spent: Spent, before: str = "") -> str:
        """Note a call.

        :param spent: for it.
        :param before: how it was noted before.
        :return: how it is noted now.
        """
        name = f"{uuid4().hex}_{spent.tokens}_{spent.cost!r}"
        write_whole(self._folder / name, b"1")
        self.strike(before)
        return name

    def strike(self, name: str) -> None:
        """Take out a call that has cost nothing."""
        if name:
            (self._folder / name).unlink(missing_ok=True)


class Asker:
    """Asks, within limits.

    :param endpoints: connection -> its endpoint, open.
    :param answers: where they are stored.
    :param expenses: what was spent before, and is from now on.
    :param pace: how fast.
    :param budget: how much.
    :param prices: of the models.
    :param parallel: calls at a time.
    :param tries: of one call.
    :param pause: seconds before the second try; it doubles from there, with jitter.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        answers: Answers,
        *,
        expenses: Expenses,
        pace: Pace | None = None,
        budget: Budget | None = None,
        prices: Prices | None = None,
        parallel: int = 8,
        tries: int = 5,
        pause: float = 1.0,
    ) -> None:
        self.endpoints, self._answers, self._expenses = endpoints, answers, expenses
        self.pace, self.budget, self.prices = pace or Pace(), budget or Budget(), prices or Prices()
        self.parallel, self._places = parallel, asyncio.Semaphore(parallel)
        self._tries, self._pause = tries, pause
        self.budget.settle(Spent(), expenses.total())
        self._settled = asyncio.Condition()
        self._running: dict[str, asyncio.Task[Asked]] = {}
        self._calling: set[asyncio.Task[Asked] | None] = set()
        self._in_vain = 0
        #: Answers that were asked for now, and found; calls that were made; why all has ended.
        self.asked = self.found = self.calls = 0
        self.stopped = ""

    async def ask(
        self, conn_id: str, path: str, body: Mapping[str, Any], sample: int = 0, since: float = 0.0
    ) -> Asked:
        """Answer a question: by what is stored, by a call that runs already, or by a call.

        :param conn_id: of the endpoint.
        :param path: ``/chat/completions`` or ``/embeddings``.
        :param body: of the call.
        :param sample: number of the repetition: another one is another answer.
        :param since: what was stored before is asked for anew; in seconds since 1970.
        :return: the answer, or why there is none.
        :raises BudgetSpent: if the most that it can cost is more than what is left.
        :raises PipeOpsError: for what concerns all questions: a wrong key, no quota, an endpoint that is down.
        """
        endpoint = self.endpoints[conn_id]
        key = Answers.key(endpoint.settings.url, path, body, sample)
        if (task := self._running.get(key)) is None:
            task = self._running[key] = asyncio.ensure_future(self._one(endpoint, path, body, key, since))
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: str, task: asyncio.Task[Asked]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # else asyncio complains where whoever asked has gone

    async def close(self) -> None:
        """Begin nothing more, and let calls that are under way come to their end: they are paid for."""
        self.stopped = self.stopped or "the evaluation has ended"
        running = list(self._running.values())
        for task in running:
            if task not in self._calling:
                task.cancel()
        await asyncio.wait(running, timeout=_LAST) if running else None
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _one(
        self, endpoint: Endpoint, path: str, body: Mapping[str, Any], key: str, since: float
    ) -> Asked:
        model = str(body.get("model"))
        found = await asyncio.to_thread(self._answers.get, key, time.time(), since)
        if found is not None:
            self.found += 1
            return Asked(found, cost=self._cost(model, found))
        async with self._places:
            answer = await self._tried(endpoint, path, body, key)
        if isinstance(answer, str):
            return Asked(error=answer)
        self.asked += 1
        return Asked(answer, cost=self._cost(model, answer))

    async def _tried(self, endpoint: Endpoint, path: str, body: Mapping[str, Any], key: str) -> Answer | str:
        """Try a call until it is answered and stored; return why it was not, where only this question is at fault."""
        called = await asyncio.to_thread(self._answers.call, key)
        model, out = str(body.get("model")), 0 if path == "/embeddings" else bound(body)
        tokens = most_in(body) + (out or 0)
        most = Spent(self.prices.cost(model, most_in(body), out or 0) or 0.0, tokens)
        for attempt in range(1, self._tries + 1):
            guess = expected(body, out)
            await asyncio.sleep(self.pace.take(time.monotonic(), guess))
            await self._reserve(most)
            noted = await asyncio.to_thread(self._expenses.note, most) if self.budget.limited else ""
            self._calling.add(asyncio.current_task())
            real = most  # also where we are cancelled: nobody knows then what it has cost
            try:
                self.calls += 1
                answer = await endpoint.ask(path, body, called)
                real = self._spent(model, answer, most)
                self._in_vain = 0
                self.pace.settle(guess, real.tokens)
                stored = await asyncio.to_thread(self._answers.put, key, replace(answer, tries=attempt))
                await asyncio.to_thread(self._expenses.note, real, noted)
                return stored
            except PipeOpsError as error:
                if not may_have_cost(error):
                    real = Spent()
                    await asyncio.to_thread(self._expenses.strike, noted)
                if not error.retryable or attempt == self._tries:
                    return self._given_up(error)
                failed = error
            finally:
                self._calling.discard(asyncio.current_task())
                self.budget.settle(most, real)
                async with self._settled:
                    self._settled.notify_all()
            await self._wait(failed, attempt)
        raise AssertionError("unreachable")

    async def _reserve(self, most: Spent) -> None:
        """Set aside what a call can cost; while others are under way, which may cost less than that, wait for them."""
        while not self.stopped and not self.budget.reserve(most):
            if not self.budget.reserved:
                self.stopped = "the budget is spent"
                break
            async with self._settled:
                if self.budget.reserved:
                    await self._settled.wait()
        if self.stopped:
            raise BudgetSpent(self.stopped)

    def _given_up(self, error: PipeOpsError) -> str:
        """Say why a question has no answer, or end all where every other would fare alike."""
        if isinstance(error, (AccessDenied, NotFound)):
            raise error
        if isinstance(error, Unreachable):
            self._in_vain += 1
            if self._in_vain >= IN_VAIN:
                raise error
        # It may quote the question.
        said = Masker().text(error.message) if self._answers.mask else error.message
        return f"no answer: {said}"[:500]

    async def _wait(self, error: PipeOpsError, attempt: int) -> None:
        """Pause before the next try, and let all others do so where the server has asked for it."""
        wanted = getattr(error, "retry_after", 0.0)
        if wanted > PATIENCE:
            raise error
        if wanted:
            self.pace.hold(time.monotonic(), wanted)
        pause = jittered(min(30.0, self._pause * 2.0 ** (attempt - 1)), 0.5, 1.5)
        await asyncio.sleep(pause if isinstance(error, (Unreachable, BadResponse)) else 0.0)

    def _cost(self, model: str, answer: Answer) -> float | None:
        if answer.tokens_in is None or answer.tokens_out is None:
            return None
        return self.prices.cost(model, answer.tokens_in, answer.tokens_out)

    def _spent(self, model: str, answer: Answer, most: Spent) -> Spent:
        """Return what an answer has cost; the most that it can have, where the endpoint did not say."""
        if answer.tokens_in is None or answer.tokens_out is None:
            return most
        return Spent(self._cost(model, answer) or 0.0, answer.tokens_in + answer.tokens_out)


def bound(body: Mapping[str, Any]) -> int | None:
    """Return the tokens that an answer may have; ``None`` where nothing bounds it."""
    found = [value for name in BOUNDS if isinstance(value := map_(body).get(name), int)]
    return max(found) if found else None
