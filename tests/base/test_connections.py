"""The extra of a connection where an event loop runs, on each Airflow that is supported."""

from __future__ import annotations

import asyncio
import threading

import pytest
from airflow.sdk import Connection

from airflow_pipeops.base.connections import read_extra


class OlderConnection:
    """That of an Airflow before 3.3.2, where masking the secrets blocks."""

    @property
    def extra_dejson(self) -> dict[str, str]:
        self.thread = threading.current_thread()
        return {"namespace": "apps"}


@pytest.mark.parametrize(
    ("extra", "expected"), [('{"namespace": "apps"}', {"namespace": "apps"}), (None, {})]
)
def test_the_extra_of_airflows_own(extra: str | None, expected: dict[str, str]) -> None:
    assert asyncio.run(read_extra(Connection(conn_id="c", conn_type="generic", extra=extra))) == expected


def test_what_would_block_runs_outside_the_event_loop() -> None:
    connection = OlderConnection()
    assert asyncio.run(read_extra(connection)) == {"namespace": "apps"}
    assert connection.thread is not threading.main_thread()
