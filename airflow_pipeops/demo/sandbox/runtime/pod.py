"""One pod: a local process, kept running, probed and reported as Kubernetes would."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_pipeops.demo.sandbox.runtime.environment import ConfigMissing
from airflow_pipeops.demo.sandbox.runtime.images import Image, ImageError, ImageStore
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.launch import prepare
from airflow_pipeops.demo.sandbox.runtime.probe import Prober
from airflow_pipeops.demo.sandbox.runtime.process import Process, ProcessTable
from airflow_pipeops.demo.sandbox.runtime.service import Connections
from airflow_pipeops.demo.sandbox.runtime.store import ObjectStore, now

#: Longest wait between two starts, in seconds; Kubernetes waits up to five minutes, a laptop's user does not.
MAX_BACK_OFF = 30.0
#: A container that ran this long (seconds) starts over with the shortest wait.
STABLE_AFTER = 60.0
#: Longest time (seconds) that open connections hold up the end of a pod.
DRAIN = 2.0
_log = logging.getLogger(__name__)


def back_off(failures: int) -> float:
    """Return the seconds to wait after the n-th failure in a row: 1, 2, 4 ... 30."""
    return min(MAX_BACK_OFF, 2.0 ** min(failures - 1, 10))


def _logged(task: asyncio.Task[None]) -> asyncio.Task[None]:
    """Make sure that a task which nobody awaits does not fail in silence."""

    def report(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()):
            _log.error("%s failed", done.get_name(), exc_info=error)

    task.add_done_callback(report)
    return task


@dataclass(frozen=True)
class Node:
    """What the pods of a cluster share.

    :param store: the objects of the cluster.
    :param processes: the processes that pods run.
    :param images: unpacked images.
    :param host_images: names of images that run with this Python and are not unpacked.
    :param connections: those open to each pod.
    :param folder: where pods keep their files and logs.
    """

    store: ObjectStore
    processes: ProcessTable
    images: ImageStore
    host_images: tuple[str, ...]
    connections: Connections
    folder: Path

    def is_host_image(self, reference: str) -> bool:
        """Whether an image runs from the sandbox's own installation: its name, tag and registry apart."""
        name = reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
        return name in self.host_images

    def log(self, pod: dict[str, Any]) -> Path:
        """Return the log file of a pod."""
        return self.folder / "logs" / f"{pod['metadata']['uid']}.log"

    def home(self, pod: dict[str, Any]) -> Path:
        """Return the folder that belongs to a pod alone."""
        return self.folder / "pods" / str(pod["metadata"]["uid"])


class PodRunner:
    """Runs one pod until it has completed or is stopped, and keeps ``status`` of its live object true."""

    def __init__(self, node: Node, key: Key) -> None:
        self._node = node
        self._key = key
        live = node.store.read(key)
        assert live is not None
        self.pod = live
        self._container = live["spec"]["containers"][0]
        self.uid = str(live["metadata"]["uid"])
        self.port = 0
        self.ready = False
        self._started = False
        self._phase = "Pending"
        self._state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self._last: dict[str, Any] = {}
        self._message = ""
        self._restarts = 0
        self._start_time = now()
        self._stopping = False
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task of its own."""
        self._publish()
        self._task = _logged(asyncio.create_task(self._run(), name=f"pod {self._key.name}"))

    def starved(self) -> float:
        """Return the seconds for which the process that runs now got no processor."""
        return self._process.starved() if self._process is not None else 0.0

    def kill(self) -> bool:
        """Kill the process group (SIGKILL); False where none runs."""
        if self._process is None:
            return False
        self._process.signal(signal.SIGKILL)
        return True

    async def stop(self, grace: float, *, drain: float = DRAIN) -> None:
        """Take the pod out of its Services, let open connections end, and end the process."""
        self._stopping = True
        self.ready = False
        if self._process is not None:
            await self._node.connections.drained(self.uid, drain)
        if self._process is not None:
            await self._process.terminate(grace)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def clean(self) -> None:
        """Remove the pod's folder and log."""
        shutil.rmtree(self._node.home(self.pod), ignore_errors=True)
        self._node.log(self.pod).unlink(missing_ok=True)

    async def _run(self) -> None:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        failures = 0
        image = await self._pull()
        while True:
            began = time.monotonic()
            code, message = await self._run_once(image)
            if self._stopping:
                return
            terminated = {
                "exitCode": code,
                "reason": "Completed" if code == 0 else ("StartError" if message else "Error"),
                "finishedAt": now(),
                **({"message": message} if message else {}),
            }
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                self._phase = "Succeeded" if code == 0 else "Failed"
                self._set(terminated=terminated)
                return
            failures = 1 if time.monotonic() - began > STABLE_AFTER else failures + 1
            wait = back_off(failures)
            self._last = {"terminated": terminated}
            text = f"back-off {wait:g}s restarting failed container={self._container['name']} pod={self._key.name}"
            self._set(waiting={"reason": "CrashLoopBackOff", "message": text})
            await asyncio.sleep(wait)
            self._restarts += 1

    async def _pull(self) -> Image | None:
        """Return the image, waiting for it as long as it is not there; None for a host image."""
        reference = self._container["image"]
        if self._node.is_host_image(reference):
            return None
        failures = 0
        while True:
            try:
                image = await asyncio.to_thread(self._node.images.resolve, reference)
                if not self._rootfs().exists():
                    await asyncio.to_thread(shutil.copytree, image.root, self._rootfs(), symlinks=True)
                return image
            except (ImageError, OSError) as error:
                failures += 1
                self._set(waiting={"reason": "ErrImagePull", "message": str(error)})
                await asyncio.sleep(0.3)
                text = f'Back-off pulling image "{reference}": ErrImagePull: {error}'
                self._set(waiting={"reason": "ImagePullBackOff", "message": text})
                await asyncio.sleep(back_off(failures))

    def _rootfs(self) -> Path:
        return self._node.home(self.pod) / "rootfs"

    async def _run_once(self, image: Image | None) -> tuple[int, str]:
        """Run the container once; returns its exit code, and a message where it could not be started."""
        home = self._node.home(self.pod)
        home.mkdir(parents=True, exist_ok=True)
        rootfs = self._rootfs() if image is not None else None
        while True:
            self.port = self._node.processes.free_port()
            try:
                launch = prepare(
                    self.pod, image, lookup=self._lookup, port=self.port, home=home, rootfs=rootfs
                )
                break
            except ConfigMissing as error:
                self._set(waiting={"reason": "CreateContainerConfigError", "message": str(error)})
                await asyncio.sleep(1)
            except OSError as error:
                return 128, str(error)
        try:
            process = await self._node.processes.spawn(
                launch.argv, env=launch.env, cwd=launch.cwd, log=self._node.log(self.pod)
            )
        except OSError as error:
            return 128, str(error)
        self._process = process
        self._phase = "Running"
        self._set(running={"startedAt": now()})
        probes = _logged(asyncio.create_task(self._probe(process, launch.env, launch.cwd), name="probes"))
        try:
            return await process.wait(), ""
        finally:
            self.ready = self._started = False
            probes.cancel()
            process.signal(signal.SIGKILL)
            self._process = None

    async def _probe(self, process: Process, env: dict[str, str], cwd: Path) -> None:
        def prober(name: str) -> Prober | None:
            spec = self._container.get(name)
            return Prober(spec, self.port, env, cwd) if spec else None

        async def unhealthy(ok: bool, why: str) -> bool:
            if not ok:
                self._note(f"container failed its liveness or startup probe and will be restarted: {why}")
                await process.terminate(self._grace())
            return not ok

        async def started(ok: bool, why: str) -> bool:
            self._started = ok
            return ok or await unhealthy(ok, why)

        startup, ready, live = (prober(f"{name}Probe") for name in ("startup", "readiness", "liveness"))
        self._started = startup is None
        if startup:
            await startup.watch(started)
        if not self._started:
            return
        if ready is None:
            await self._report_ready(True, "")
        else:
            self._publish()
        watches = [ready.watch(self._report_ready, eager=0.5)] if ready else []
        await asyncio.gather(*watches, *([live.watch(unhealthy)] if live else []))

    async def _report_ready(self, ok: bool, why: str) -> None:
        if ok != self.ready and not self._stopping:
            self.ready = ok
            self._note("" if ok else f"readiness probe failed: {why}")

    def _grace(self) -> float:
        value = self.pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if value is None else float(value)

    def _lookup(self, kind: str, name: str) -> dict[str, Any] | None:
        return self._node.store.peek(Key("", kind, self._key.namespace, name))

    def _note(self, message: str) -> None:
        self._message = message
        self._publish()

    def _set(self, **state: Any) -> None:
        self._state = state
        self._message = ""
        self._publish()

    def _publish(self) -> None:
        """Write the status of the live object, where something changed."""
        live = self._node.store.read(self._key)
        if live is None or live["metadata"]["uid"] != self.uid:
            return
        before = {c["type"]: c for c in live.get("status", {}).get("conditions", [])}

        def condition(type_: str, true: bool) -> dict[str, Any]:
            value, old = "True" if true else "False", before.get(type_)
            since = old["lastTransitionTime"] if old and old["status"] == value else now()
            out = {"type": type_, "status": value, "lastTransitionTime": since}
            if not true:
                done = self._phase in ("Succeeded", "Failed")
                out["reason"] = "PodCompleted" if done else "ContainersNotReady"
                out["message"] = (
                    self._message or f"containers with unready status: [{self._container['name']}]"
                )
            return out

        live["status"] = {
            "phase": self._phase,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "startTime": self._start_time,
            "conditions": [
                condition("PodScheduled", True),
                condition("Initialized", True),
                condition("ContainersReady", self.ready),
                condition("Ready", self.ready),
            ],
            "containerStatuses": [
                {
                    "name": self._container["name"],
                    "image": self._container["image"],
                    "imageID": self._container["image"],
                    "ready": self.ready,
                    "started": self._started,
                    "restartCount": self._restarts,
                    "state": self._state,
                    "lastState": self._last,
                }
            ],
        }
        self._node.store.write(live)
