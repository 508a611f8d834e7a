"""The Services of a cluster: which ports are open, and to which pods they lead."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from airflow_pipeops.demo.sandbox.runtime import manifest
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.pod import PodRunner
from airflow_pipeops.demo.sandbox.runtime.service import Connections, Proxy
from airflow_pipeops.demo.sandbox.runtime.store import ObjectStore

_RANGE = range(30000, 32768)
_log = logging.getLogger(__name__)


class Network:
    """Opens and closes the nodePorts of Services.

    :param runners: the running pods, by key; read at each connection.
    """

    def __init__(self, store: ObjectStore, runners: dict[Key, PodRunner], connections: Connections) -> None:
        self._store = store
        self._runners = runners
        self._connections = connections
        self._proxies: dict[int, tuple[Key, Proxy]] = {}
        self._retries: set[asyncio.Task[None]] = set()

    async def admit(self, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Open the ports of a Service that is about to be stored; fills in a nodePort that it leaves open.

        :raises InvalidInput: a port is taken, by another Service or another program.
        """
        key, spec = Key.of(obj), obj["spec"]
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            return
        opened: list[int] = []
        before = {p["port"]: p.get("nodePort") for p in (old or {}).get("spec", {}).get("ports") or []}
        try:
            for index, port in enumerate(spec.get("ports") or []):
                if not port.get("nodePort"):
                    port["nodePort"] = before.get(port["port"]) or await self._allocate(key, opened)
                number = port["nodePort"]
                owner = self._proxies.get(number, (key, None))[0]
                if owner != key or (number in opened and before.get(port["port"]) != number):
                    raise manifest.port_taken(obj, index, number, str(owner))
                if number not in self._proxies:
                    try:
                        await self._open(key, number)
                    except OSError as error:
                        raise manifest.port_taken(
                            obj, index, number, f"another program: {error.strerror}"
                        ) from None
                    opened.append(number)
        except BaseException:
            for number in opened:
                await self._close(number)
            raise
        if spec["type"] == "LoadBalancer":
            obj["status"] = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}

    async def settle(self, key: Key) -> None:
        """Close the ports that a Service no longer has."""
        wanted = self._ports(self._store.peek(key))
        for number in [n for n, (owner, _) in self._proxies.items() if owner == key and n not in wanted]:
            await self._close(number)

    async def start(self) -> None:
        """Open the ports of all stored Services; one that is taken meanwhile is tried again until it is free."""
        for key in self._store.snapshot():
            if key[:2] == ("", "Service"):
                for number in self._ports(self._store.peek(key)):
                    task = asyncio.create_task(self._insist(key, number))
                    self._retries.add(task)
                    task.add_done_callback(self._retries.discard)
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Close all ports."""
        for task in list(self._retries):
            task.cancel()
        for number in list(self._proxies):
            await self._close(number)

    async def _insist(self, key: Key, number: int) -> None:
        while number in self._ports(self._store.peek(key)) and number not in self._proxies:
            try:
                await self._open(key, number)
            except OSError as error:
                _log.warning(
                    "%s: cannot listen on 127.0.0.1:%s (%s); will try again", key, number, error.strerror
                )
                await asyncio.sleep(2)

    async def _allocate(self, key: Key, opened: list[int]) -> int:
        for number in _RANGE:
            if number not in self._proxies:
                try:
                    await self._open(key, number)
                except OSError:
                    continue
                opened.append(number)
                return number
        raise manifest.port_taken({"kind": "Service", "metadata": {"name": key.name}}, 0, 0, "all are in use")

    async def _open(self, key: Key, number: int) -> None:
        proxy = Proxy(number, lambda: self._endpoints(key), self._connections)
        await proxy.start()
        self._proxies[number] = (key, proxy)

    async def _close(self, number: int) -> None:
        await self._proxies.pop(number)[1].stop()

    def _endpoints(self, key: Key) -> list[tuple[str, int]]:
        service = self._store.peek(key)
        selector = (service or {}).get("spec", {}).get("selector")
        if not selector:
            return []
        return [
            (runner.uid, runner.port)
            for pod, runner in self._runners.items()
            if pod.namespace == key.namespace and runner.ready and selector.items() <= _labels(runner).items()
        ]

    @staticmethod
    def _ports(service: dict[str, Any] | None) -> list[int]:
        spec = (service or {}).get("spec", {})
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            return []
        return [p["nodePort"] for p in spec.get("ports") or [] if p.get("nodePort")]


def _labels(runner: PodRunner) -> dict[str, str]:
    return dict(runner.pod["metadata"].get("labels") or {})
