"""The model, its artifact and its server are those of the tests of models."""

from __future__ import annotations

from tests.models.conftest import connections, fitted, served, stored, table

__all__ = ["connections", "fitted", "served", "stored", "table"]
