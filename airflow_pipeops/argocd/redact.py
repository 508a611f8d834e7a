"""Take secrets out of texts; shared with the other controllers, see :mod:`airflow_pipeops.gitops.redact`."""

from __future__ import annotations

from airflow_pipeops.gitops.redact import MASK as MASK
from airflow_pipeops.gitops.redact import redacted as redacted
