"""A log that is read on from where it was read to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_pipeops.kubernetes import client as kubernetes
from airflow_pipeops.kubernetes.kinds import PODS
from airflow_pipeops.kubernetes.logs import Position, read_on
from tests.kubernetes.apiserver import serving
from tests.kubernetes.test_client import run


class Chatty:
    """A server whose container has written one more line whenever it is asked, and which holds back what is too much.

    :param parts: how many answers are cut.
    """

    def __init__(self, parts: int) -> None:
        self.asked, self.parts = 0, parts

    async def log_from(self, *_: Any) -> tuple[list[str], bool]:
        self.asked += 1
        return [f"2030-01-01T00:00:{self.asked:02d}Z line {self.asked}"], self.asked <= self.parts


def test_a_container_that_writes_all_the_time_is_left_at_what_it_had_written() -> None:
    for parts in (0, 3):
        server: Any = Chatty(parts)
        lines, position = asyncio.run(read_on(server, "ns", "pod", "main", Position()))
        assert lines == [f"line {number}" for number in range(1, parts + 2)]
        assert position == Position(f"2030-01-01T00:00:{parts + 1:02d}Z", 1)


def test_a_log_of_more_than_one_answer_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as api:
        pod = {"metadata": {"name": "pod", "namespace": "ns"}, "spec": {"containers": [{"name": "main"}]}}
        said = [f"line {number} with an ä" for number in range(60)]
        api.container_logs["ns", "pod"] = {
            "main": [(1_900_000_000_000_000_000 + at * 10**8, line) for at, line in enumerate(said)]
        }
        # Less than all, more than the lines of the second that each answer begins with.
        monkeypatch.setattr(kubernetes, "_MOST_LOG_PART", 1500)

        async def work(client: kubernetes.KubernetesClient) -> list[str]:
            await client.create(PODS, pod, "ns")
            return (await read_on(client, "ns", "pod", "main", Position()))[0]

        assert run(api, work) == said
        assert len([one for one in api.requests if "/log" in str(one)]) > 1
