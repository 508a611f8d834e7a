"""A sandbox server whose cluster keeps objects and runs nothing: health is told by the manifest.

Annotations on an object: ``test/health`` is its health once settled, ``test/after`` the seconds until then.
Run as a program it serves like the real one: ``python double.py STATE INTERVAL [GRACE] [BUFFER] [PORT]``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.wire import clone, merge_patch
from airflow_pipeops.exceptions import InvalidInput, NotFound


class MemoryCluster:
    """Objects on disk, no processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._live: dict[Key, dict[str, Any]] = {}
        self._applied: dict[Key, dict[str, Any]] = {}
        self._since: dict[Key, float] = {}
        self._callbacks: list[Any] = []
        self._version = 0

    async def start(self) -> None:
        if self._path.exists():
            for live, applied in json.loads(self._path.read_text()):
                key = Key.of(live)
                self._live[key], self._applied[key] = live, applied
                self._since[key] = time.time()

    async def stop(self) -> None:
        (self._path.parent / "stopped-cleanly").write_text("yes")

    def _save(self, kind: str, live: dict[str, Any]) -> None:
        self._path.write_text(json.dumps([[v, self._applied.get(k)] for k, v in self._live.items()]))
        for callback in list(self._callbacks):
            callback(kind, clone(live))

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        key = Key.of(manifest)
        if "test/refuse" in (manifest["metadata"].get("annotations") or {}):
            raise InvalidInput(f"{key}: refused by the test")
        before = self._live.get(key)
        if before and self._applied.get(key) == manifest and merge_patch(before, manifest) == before:
            return clone(before)
        self._version += 1
        live = clone(manifest)
        live["metadata"]["uid"] = before["metadata"]["uid"] if before else str(uuid.uuid4())
        live["metadata"]["resourceVersion"] = str(self._version)
        if key.kind == "Deployment":
            live["spec"].setdefault("revisionHistoryLimit", 10)
        self._live[key], self._applied[key], self._since[key] = live, clone(manifest), time.time()
        self._save("MODIFIED" if before else "ADDED", live)
        delay = float((manifest["metadata"].get("annotations") or {}).get("test/after", 0))
        if delay:
            asyncio.get_running_loop().call_later(delay + 0.05, self._save, "MODIFIED", live)
        return clone(live)

    async def patch(self, key: Key, patch: dict[str, Any]) -> dict[str, Any]:
        if key not in self._live:
            raise NotFound(f"{key} is not live")
        self._version += 1
        live = merge_patch(self._live[key], patch)
        live["metadata"]["resourceVersion"] = str(self._version)
        self._live[key] = live
        self._save("MODIFIED", live)
        return clone(live)

    async def delete(self, key: Key) -> bool:
        live = self._live.pop(key, None)
        if live is not None:
            self._save("DELETED", live)
        return live is not None

    async def kill(self, key: Key) -> int:
        return 0

    def get(self, key: Key) -> dict[str, Any] | None:
        return clone(self._live[key]) if key in self._live else None

    def list(self, where: Callable[[dict[str, Any]], bool] = bool, **filters: Any) -> Any:
        return [
            clone(live)
            for key, live in sorted(self._live.items())
            if where(live) and all(getattr(key, name) == value for name, value in filters.items())
        ]

    def last_applied(self, key: Key) -> dict[str, Any] | None:
        return clone(self._applied.get(key))

    def health(self, live: dict[str, Any]) -> tuple[str | None, str]:
        marks = live["metadata"].get("annotations") or {}
        if time.time() - self._since.get(Key.of(live), 0) < float(marks.get("test/after", 0)):
            return "Progressing", "settling"
        if "test/health" in marks:
            return marks["test/health"], marks.get("test/message", "")
        return ("Healthy", "") if live["kind"] in ("Deployment", "Job", "Service", "Pod") else (None, "")

    def children(self, key: Key) -> Any:
        live = self._live.get(key)
        if live is None or key.kind != "Deployment":
            return []
        owner = {"uid": live["metadata"]["uid"], "kind": "Deployment", "name": key.name}
        replica_set = {"name": f"{key.name}-1", "namespace": key.namespace, "uid": "rs-" + owner["uid"]}
        pod = {"name": f"{key.name}-1-a", "namespace": key.namespace, "uid": "pod-" + owner["uid"]}
        pod["ownerReferences"] = [
            {"uid": replica_set["uid"], "kind": "ReplicaSet", "name": replica_set["name"]}
        ]  # type: ignore[assignment]
        replica_set["ownerReferences"] = [owner]
        return [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": replica_set},
            {"apiVersion": "v1", "kind": "Pod", "metadata": pod},
        ]

    def logs(self, key: Key, tail: int = 100) -> Any:
        return [f"line {number} of {key.name}" for number in range(5)][-tail:]

    def subscribe(self, callback: Any) -> Any:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)


def main() -> None:
    from airflow_pipeops.demo.sandbox.server import Sandbox, Settings, serve

    state, interval, grace, buffer = (
        Path(sys.argv[1]),
        float(sys.argv[2]),
        float(sys.argv[3]),
        int(sys.argv[4]),
    )
    port = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    state.mkdir(parents=True, exist_ok=True)

    async def run() -> None:
        cluster: Any = MemoryCluster(state / "live.json")
        sandbox = Sandbox(Settings(state, interval, grace, buffer), cluster)
        await serve(
            sandbox,
            "127.0.0.1",
            port,
            lambda port: print(f"listening on http://127.0.0.1:{port}", flush=True),
        )

    asyncio.run(run())


if __name__ == "__main__":
    main()
