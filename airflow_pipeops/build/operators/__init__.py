"""Test a commit, build its image, sign and verify it, and ask the running service a few questions."""

from __future__ import annotations

from airflow_pipeops.build.operators.coverage import CoverageGateOperator
from airflow_pipeops.build.operators.image import BuildImageOperator
from airflow_pipeops.build.operators.signatures import SignImageOperator, VerifyImageOperator
from airflow_pipeops.build.operators.smoke import SmokeTestOperator
from airflow_pipeops.build.operators.tests import RunTestsOperator

__all__ = [
    "BuildImageOperator",
    "CoverageGateOperator",
    "RunTestsOperator",
    "SignImageOperator",
    "SmokeTestOperator",
    "VerifyImageOperator",
]
