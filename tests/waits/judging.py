"""Judge and wait by the rulebook of Argo CD, as most tests of the wait do."""

from __future__ import annotations

from functools import partial

from airflow_pipeops.argocd.rules import RULEBOOK
from airflow_pipeops.waits import verdict, wait

decide = partial(verdict.decide, rulebook=RULEBOOK)
Wait = partial(wait.Wait, rulebook=RULEBOOK)
