"""What operators share that wait for a controller: deferred, or in the worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.configuration import conf

from airflow_pipeops.base.arguments import positive
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import PipeOpsError, ReleaseFailed
from airflow_pipeops.waits.controller import Controller, ended, look_once, until_decided
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.wait import raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_pipeops.waits.wait import Wait

#: Added to the deadline where Airflow enforces it: our own comes first and says why.
MARGIN = timedelta(minutes=5)

#: Runs work with an open client, as a hook does: ``run(work, attempts=..., timeout=...)``.
Run = Callable[..., Any]


class LookingOperator(DeliveryOperator):
    """Looks at something again and again.

    :param poll_interval: between two looks.
    :param deferrable: look in the triggerer; by default ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        poll_interval: timedelta = timedelta(seconds=5),
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.poll_interval = positive("poll_interval", poll_interval)
        self.deferrable = deferrable
        if deferrable is None:
            self.deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)

    def until(
        self,
        waits: Callable[[], Sequence[Wait]],
        run: Run,
        controller: Callable[[Any], Controller],
        trigger: Callable[[Sequence[Wait]], BaseTrigger],
        method: str,
        *,
        timeout: timedelta,
        fail_fast: bool = True,
    ) -> Sequence[Wait]:
        """Wait; deferred unless the first look decides.

        :param waits: returns who judges what is seen; called when the client is open, which may tell what is meant.
        :param run: opens a client and runs work with it.
        :param controller: makes the controller of a client.
        :param trigger: makes the trigger that goes on with these waits.
        :param method: name of the method that goes on after a deferral, with the trigger's event.
        :param timeout: for the whole wait.
        :param fail_fast: end as soon as one has failed.
        :return: the waits, which are over.
        """

        async def work(client: Any) -> Sequence[Wait]:
            found = waits()
            # Looking first spares a deferral where it is done already, and the race of a trigger that fires at once.
            if self.deferrable:
                await look_once(controller(client), found)
            else:
                interval = self.poll_interval.total_seconds()
                await until_decided(controller(client), found, interval, fail_fast=fail_fast)
            return found

        found: Sequence[Wait] = run(work)
        if not ended(found, fail_fast=fail_fast):
            self.defer(trigger=trigger(found), method_name=method, timeout=timeout + MARGIN)
        return found


class WaitOperator(LookingOperator):
    """Wait until expectations come true.

    :param timeout: for the whole wait.
    :param settle: for which what is expected must hold.
    """

    def __init__(
        self,
        *,
        timeout: timedelta = timedelta(minutes=30),
        settle: timedelta = timedelta(seconds=5),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.timeout = positive("timeout", timeout)
        self.settle = positive("settle", settle, zero=True)

    def explained(
        self, run: Run, explain: Callable[[Any], Awaitable[str]], otherwise: Callable[[], str]
    ) -> str:
        """Return why a wait has failed; best effort, and not for long: the verdict is in.

        :param run: opens a client and runs work with it.
        :param explain: asks for what a person looks up next.
        :param otherwise: returns what is said where nobody answers.
        :return: the message for the error.
        """
        try:
            return str(run(explain, attempts=1, timeout=10.0))
        except PipeOpsError:
            return otherwise()


class VerdictWaitOperator(WaitOperator):
    """Wait for the verdict of looks that block; a :class:`~airflow_pipeops.waits.triggers.VerdictTrigger` goes on with them.

    A subclass gives :attr:`errors` and :meth:`finish`.
    """

    #: Rule of a verdict -> the error that a wait ends with; ``ReleaseFailed`` for any other.
    errors: ClassVar[Mapping[str, type[PipeOpsError]]] = {}

    def until_told(self, look: Callable[[], Verdict], trigger: Callable[[], BaseTrigger]) -> Verdict:
        """Wait; deferred unless the first look decides.

        :param look: looks once.
        :param trigger: makes the trigger that goes on.
        :return: the verdict.
        """
        while (verdict := look()).state == "wait":
            if self.deferrable:
                self.defer(trigger=trigger(), method_name="execute_complete", timeout=self.timeout + MARGIN)
            time.sleep(self.poll_interval.total_seconds())
        return verdict

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            return self.finish(context, Verdict.from_json(event["verdict"]), event["facts"])

    def finish(self, context: Context, verdict: Verdict, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the verdict means.

        :param context: of the task.
        :param verdict: that is in.
        :param facts: what the task has to say beside it.
        :return: what the task returns.
        :raises PipeOpsError: where it is not done.
        """
        raise NotImplementedError

    def demand_done(self, verdict: Verdict, called: str) -> None:
        """Refuse a verdict that is not done.

        :param called: what was waited for.
        :raises PipeOpsError: of the kind that :attr:`errors` says.
        """
        if verdict.state != "done":
            kind = self.errors.get(verdict.rule, ReleaseFailed)
            raise kind(f"{called}: {verdict.reason} ({verdict.rule})")


class CommitWaitOperator(WaitOperator):
    """Wait until a controller has brought a commit to life.

    :param git_conn_id: repository of the desired state; with it, a newer commit that contains the expected one is as good.
    """

    def __init__(self, *, git_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
