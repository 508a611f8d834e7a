"""Judge by the rulebook of Flux."""

from __future__ import annotations

from functools import partial

from airflow_pipeops.flux.rules import RULEBOOK
from airflow_pipeops.waits import verdict

decide = partial(verdict.decide, rulebook=RULEBOOK)
questions = partial(verdict.questions, rulebook=RULEBOOK)
