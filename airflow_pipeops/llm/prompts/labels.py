"""Labels under which applications ask for a prompt. Pure."""

from __future__ import annotations

import re

#: What MLflow takes as an alias and Langfuse as a label; ``latest`` and version numbers mean something else to both.
LABEL = re.compile(r"(?!latest$|v?[0-9]+$)[a-z0-9][a-z0-9_-]{0,35}")
