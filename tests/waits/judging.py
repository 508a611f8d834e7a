"""Judge and wait by the rulebook of Argo CD, as most tests of the wait do."""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow_pipeops.argocd.rules import RULEBOOK
from airflow_pipeops.waits import verdict, wait

decide = partial(verdict.decide, rulebook=RULEBOOK)
questions = partial(verdict.questions, rulebook=RULEBOOK)


class Wait(wait.Wait):
    """A wait for an Application."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, rulebook=RULEBOOK, **named)
