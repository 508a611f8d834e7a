"""Which commit contains which; shared with the other controllers, see :mod:`airflow_pipeops.gitops.ancestry`."""

from __future__ import annotations

from airflow_pipeops.gitops.ancestry import contains_commit as contains_commit
from airflow_pipeops.gitops.ancestry import git_oracle as git_oracle
