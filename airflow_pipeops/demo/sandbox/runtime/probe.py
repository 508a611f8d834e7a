"""Probes: is a container started, ready, alive?"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.demo.sandbox.runtime import reaper


class Prober:
    """Runs one probe of one container, again and again.

    :param spec: the probe of the manifest.
    :param port: the loopback port on which the container was told to listen.
    :param env: the container's environment, for ``exec``.
    """

    def __init__(self, spec: dict[str, Any], port: int, env: dict[str, str], cwd: Path) -> None:
        self._spec = spec
        self._port = port
        self._env = env
        self._cwd = cwd

    async def once(self) -> str:
        """Run the probe once; returns an empty string for success, else why it failed."""
        timeout = float(self._spec.get("timeoutSeconds") or 1)
        try:
            return await within(timeout, self._act())
        except asyncio.TimeoutError:
            return f"no answer within {timeout:g} s"
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            return str(error) or type(error).__name__

    async def watch(
        self, report: Callable[[bool, str], Awaitable[bool | None]], *, eager: float | None = None
    ) -> None:
        """Probe until ``report(ok, why)`` answers True; it is called each time that a threshold is reached.

        :param eager: longest period (seconds) before the first success: a laptop's user need not wait the ten
            seconds of a default readiness probe until a server that is up is asked again.
        """
        await asyncio.sleep(float(self._spec.get("initialDelaySeconds") or 0))
        period = float(self._spec.get("periodSeconds") or 10)
        needed = {True: int(self._spec.get("successThreshold") or 1)}
        needed[False] = int(self._spec.get("failureThreshold") or 3)
        last, count, succeeded = None, 0, False
        while True:
            why = await self.once()
            ok = not why
            count = count + 1 if ok == last else 1
            last, succeeded = ok, succeeded or ok
            if count >= needed[ok] and await report(ok, why):
                return
            hurry = eager is not None and not succeeded
            await asyncio.sleep(min(period, eager or period) if hurry else period)

    async def _act(self) -> str:
        if "httpGet" in self._spec:
            return await self._http(self._spec["httpGet"])
        if "tcpSocket" in self._spec:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.close()
            return ""
        return await self._exec(self._spec["exec"]["command"])

    async def _http(self, get: dict[str, Any]) -> str:
        path = get.get("path") or "/"
        headers = {
            "Host": f"127.0.0.1:{self._port}",
            "User-Agent": "kube-probe/sandbox",
            "Connection": "close",
        }
        headers.update({h["name"]: h["value"] for h in get.get("httpHeaders") or []})
        lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
            first = (await reader.readline()).decode("latin-1").split()
        finally:
            writer.close()
        if len(first) < 2 or not first[1].isdigit():
            return "the answer is not HTTP"
        return "" if 200 <= int(first[1]) < 400 else f"HTTP probe failed with statuscode: {first[1]}"

    async def _exec(self, command: list[str]) -> str:
        proc = await asyncio.create_subprocess_exec(
            *command,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = await proc.wait()
        except asyncio.CancelledError:
            reaper.kill_group(proc.pid)
            with contextlib.suppress(ProcessLookupError):
                proc.kill()
            raise
        return "" if code == 0 else f"command ended with exit code {code}"
