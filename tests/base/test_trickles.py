"""Servers whose headers come byte by byte and never end: each byte comes in time, and the answer must come, too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from airflow_pipeops.argo_workflows.clients.worker import WorkerHttp
from airflow_pipeops.base.blocking import bounded
from airflow_pipeops.build.registry import Registry
from airflow_pipeops.exceptions import Unreachable
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import PODS
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from airflow_pipeops.provider.doctor import command
from tests.base.test_downloads import trickling
from tests.servers import free_ports

pytestmark = pytest.mark.timeout(120)


def watch_pods(url: str) -> None:
    async def source() -> Endpoint:
        return Endpoint(url)

    async def ask() -> None:
        async with KubernetesClient(source, timeout=0.5) as client:
            async for _ in client.watch(PODS, "shop", resource_version="1", seconds=1):
                raise AssertionError("there is no event")

    asyncio.run(ask())


def image(url: str) -> None:
    with Registry(url.removeprefix("http://"), plain=True, timeout=0.5, attempts=1) as registry:
        registry.manifest("shop/web", "1")


@pytest.mark.parametrize("ask", [watch_pods, image])
def test_headers_that_trickle_end_in_time(ask: Callable[[str], None]) -> None:
    with trickling() as (url, gone):
        with pytest.raises(Unreachable):
            ask(url)
        assert gone.wait(60), "the connection was not closed"


@pytest.mark.parametrize("options", [{"retries": 1}, {"uds": "/nobody/listens"}])
def test_a_bounded_client_tries_again_and_takes_a_socket_as_before(options: dict[str, Any]) -> None:
    with (
        bounded(httpx.Client(transport=httpx.HTTPTransport(**options)), 1.0) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get(f"http://127.0.0.1:{free_ports(1)}/")


def test_the_doctor_says_that_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE", 0.5)
    with trickling() as (url, gone):
        assert command._status(url) is None
        assert gone.wait(60)


WORKER = """
import asyncio, sys
from airflow_pipeops.exceptions import Unreachable
from tests.base.test_trickles import WorkerHttp, worker

async def once(http):
    await http.object("GET", "/api/v1/version", about="the version")

async def stream(http):
    async for _ in http.lines("/x", about="a stream", silence=1.0, params={}):
        raise AssertionError

try:
    asyncio.run(worker(sys.argv[1], {"once": once, "stream": stream}[sys.argv[2]]))
except Unreachable as error:
    print("gave up:", error)
"""


async def worker(url: str, ask: Callable[[Any], Any]) -> None:
    """Ask through the client that workers use for Argo Workflows."""
    async with WorkerHttp(url, timeout=0.5, attempts=1, pause=0.0) as http:
        await ask(http)


@pytest.mark.parametrize("how", ["once", "stream"])
def test_a_worker_ends_though_its_client_still_reads(how: str) -> None:
    """The client blocks a thread; the process that gave up on it must end all the same."""
    with trickling() as (url, _):
        done = subprocess.run(
            [sys.executable, "-c", WORKER, url, how], capture_output=True, text=True, timeout=100
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gave up:" in done.stdout
