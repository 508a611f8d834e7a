"""Five hundred objects applied, waited for and compared: time and requests beside ``kubectl apply`` and ``helm upgrade``.

All are asked for the same: that 300 ConfigMaps, 100 Services and 100 Deployments are there, then a tenth of each is another.
Each contestant has a server of its own, the one of the tests, in this process, and runs in other processes; our own process
is timed without its imports, theirs as a whole. Figures are of the second release: seconds, requests, and seconds of CPU of
the contestant alone, which the others on a machine hardly change:
``trial`` (what would change), ``apply`` (with what is pruned), ``wait`` (all are live), ``drift`` (what differs afterwards).
Helm has no program that compares live objects, and its wait reads ReplicaSets, which nobody plays here: it is not waited by.

With ``--latency`` the server takes so many seconds more for each answer, as one that is elsewhere and keeps objects on disk.

Run: python tests/benchmarks/push.py [--repeat 3] [--ways ours kubectl helm3 helm4] [--latency 0.02]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.deploy.apply.cluster import KINDS, configmap, service
from tests.kubernetes.apiserver import ApiServer, Fault, serving
from tests.threads import repeated

COUNTS = {"configmaps": 300, "services": 100, "deployments": 100}
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
Figures = dict[str, tuple[float, int, float]]


def bodies(version: int) -> list[dict[str, Any]]:
    """Return all objects of a release; with the second one, each tenth is another."""

    def value(number: int) -> str:
        return str(version if number % 10 == 0 else 1)

    found = [configmap(f"c{number}", value(number)) for number in range(COUNTS["configmaps"])]
    found += [service(f"s{number}", value(number)) for number in range(COUNTS["services"])]
    for number in range(COUNTS["deployments"]):
        labels = {"app": f"d{number}", "set": "bench"}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "web", "image": f"shop/web:{value(number)}"}]},
        }
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": f"d{number}"}}, "template": template}
        found.append(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": f"d{number}", "namespace": "shop", "labels": {"set": "bench"}},
                "spec": spec,
            }
        )
    return found


@contextmanager
def controller(api: ApiServer) -> Iterator[None]:
    """Bring Deployments about."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 2)
    said = [
        {"type": "Available", "status": "True"},
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
    ]

    def live(item: dict[str, Any]) -> None:
        item["status"] = {**counts, "conditions": said, "observedGeneration": item["metadata"]["generation"]}

    def addressed(item: dict[str, Any]) -> None:
        item["spec"]["clusterIP"] = "10.0.0.1"

    def work() -> None:
        deployments, services = api.kinds["apps", "v1", "deployments"], api.kinds["", "v1", "services"]
        with api.lock:
            behind = [
                name
                for (_, name), item in deployments.objects.items()
                if item.get("status", {}).get("observedGeneration") != item["metadata"]["generation"]
            ]
            bare = [name for (_, name), item in services.objects.items() if "clusterIP" not in item["spec"]]
        for name in behind:
            api.change("deployments", "shop", name, live)
        for name in bare:
            api.change("services", "shop", name, addressed)

    with repeated(0.05, work):
        yield


# ---- contestants -------------------------------------------------------------------------------------------------------


def kubeconfig(folder: Path, url: str) -> Path:
    from tests.deploy.helm.running import kubeconfig as written

    return written(folder / "config", url)


def ran(command: list[str], folder: Path, *, codes: tuple[int, ...] = (0,), **env: str) -> None:
    """Run a program of others."""
    around = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(folder / "config"), **env}
    done = subprocess.run(command, env=around, capture_output=True, text=True, timeout=600)
    assert done.returncode in codes, f"{command}: {done.stdout[-1000:]} {done.stderr[-1000:]}"


def by_kubectl(api: ApiServer, folder: Path) -> Figures:
    kubeconfig(folder, api.url)
    figures: Figures = {}
    for version in (1, 2):
        wanted = folder / "wanted.json"
        wanted.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies(version)}))
        file = ["--server-side", "-f", str(wanted), "--namespace=shop"]
        take = ["--applyset=configmaps/web", "--prune", "--force-conflicts", "--validate=ignore"]
        wait = ["rollout", "status", "deployment", "--selector=set=bench", "--namespace=shop"]
        diff: Callable[[], None] = lambda file=file: ran([KUBECTL, "diff", *file], folder, codes=(0, 1))  # type: ignore[misc]  # noqa: E731
        figures["trial"] = timed(api, diff)
        figures["apply"] = timed(
            api,
            lambda file=file, take=take: ran(
                [KUBECTL, "apply", *file, *take], folder, KUBECTL_APPLYSET="true"
            ),  # type: ignore[misc]
        )
        figures["wait"] = timed(api, lambda wait=wait: ran([KUBECTL, *wait], folder))  # type: ignore[misc]
        figures["drift"] = timed(api, diff)
    return figures


def by_helm(major: str) -> Callable[[ApiServer, Path], Figures]:
    def way(api: ApiServer, folder: Path) -> Figures:
        from tests.deploy.helm.running import chart, helm

        kubeconfig(folder, api.url)
        program = helm(major)
        figures: Figures = {}
        for version in (1, 2):
            text = "\n---\n".join(json.dumps(one) for one in bodies(version))
            made = chart(folder / "web", f"{version}.0.0", all=text)
            command = [program, "upgrade", "web", str(made), "--install", "--namespace=shop"]
            figures["trial"] = timed(api, lambda command=command: ran([*command, "--dry-run=server"], folder))  # type: ignore[misc]
            figures["apply"] = timed(api, lambda command=command: ran(command, folder))  # type: ignore[misc]
        return figures

    return way


def by_ours(api: ApiServer, folder: Path) -> Figures:
    """Let a process of our own say when each part begins and ends; it waits until that is noted."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--child", api.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    figures: Figures = {}
    before = 0
    for line in child.stdout:
        if not line.startswith("{"):
            continue
        told = json.loads(line)
        if "seconds" in told:
            figures[told["part"]] = (
                round(told["seconds"], 2),
                len(api.requests) - before,
                round(told["cpu"], 2),
            )
        before = len(api.requests)
        child.stdin.write("\n")
        child.stdin.flush()
    assert child.wait() == 0
    return figures


def timed(api: ApiServer, work: Callable[[], None]) -> tuple[float, int, float]:
    before, began, spent = len(api.requests), time.monotonic(), cpu(resource.RUSAGE_CHILDREN)
    work()
    took = round(time.monotonic() - began, 2)
    return took, len(api.requests) - before, round(cpu(resource.RUSAGE_CHILDREN) - spent, 2)


def cpu(whose: int) -> float:
    """Return the seconds of CPU that were spent."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


async def child(url: str) -> None:
    """Apply, wait for and compare both releases."""
    import aiohttp  # noqa: F401  # as said, without imports

    from airflow_pipeops.deploy.apply.cluster import MANAGER
    from airflow_pipeops.deploy.apply.engine import Applier, Wanted, release_of
    from airflow_pipeops.deploy.apply.sets import PART_OF
    from airflow_pipeops.deploy.differences.desired import Desired
    from airflow_pipeops.deploy.differences.look import look as compare
    from airflow_pipeops.deploy.targets import AppliedSet, Target
    from airflow_pipeops.deploy.waits import AppliedController
    from airflow_pipeops.kubernetes.client import KubernetesClient
    from airflow_pipeops.kubernetes.kubeconfig import Endpoint
    from airflow_pipeops.waits.controller import until_decided
    from airflow_pipeops.waits.verdict import Expectation
    from airflow_pipeops.waits.wait import Wait

    async def source() -> Endpoint:
        return Endpoint(url, "Bearer token")

    async def part(name: str, work: Any) -> Any:
        told(part=name)
        began, spent = time.monotonic(), cpu(resource.RUSAGE_SELF)
        found = await work
        took = time.monotonic() - began
        told(part=name, seconds=took, cpu=cpu(resource.RUSAGE_SELF) - spent)
        return found

    def told(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)
        sys.stdin.readline()

    async with KubernetesClient(source, many=True) as client:
        for version in (1, 2):
            wanted = Wanted("web", "shop", bodies(version), f"task-{version}", str(version))
            applier = Applier(client, wanted, lambda *_: "newer")
            look = await part("trial", applier.look())
            done = await part("apply", applier.apply(look, release_of(wanted, look.manifests)))
            targets = tuple(Target.of(answer, one.served.plural, one.body) for one, answer in done.answers)
            wait = Wait(
                AppliedSet("web", targets, "shop"),
                Expectation(match="any", settle=0.0),
                rulebook=AppliedController.rulebook,
            )
            await part("wait", until_decided(AppliedController(client), [wait], 0.5))
            assert wait.done, wait.state.verdict

            async def wanting(_: Any, version: int = version) -> Desired:
                return Desired(
                    "web", str(version), "shop", bodies(version), ("metadata", "labels", PART_OF), MANAGER
                )

            found = await part("drift", compare(client, wanting))
            assert found.compared == (), found.differences


WAYS: dict[str, Callable[[ApiServer, Path], Figures]] = {
    "ours": by_ours,
    "kubectl": by_kubectl,
    "helm3": by_helm("helm3"),
    "helm4": by_helm("helm4"),
}


def main() -> None:
    """Measure, and print the figures as JSON: the median of each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        asyncio.run(child(given.child))
        return
    found: dict[str, list[Figures]] = {name: [] for name in given.ways}
    print(json.dumps({"load": os.getloadavg()}), flush=True)
    for _ in range(given.repeat):
        for name in given.ways:
            with tempfile.TemporaryDirectory() as folder, serving(*KINDS) as api, controller(api):
                api.tokens[""] = lambda *_: True
                if given.latency:
                    api.faults.append(Fault("delay", seconds=given.latency))
                found[name].append(WAYS[name](api, Path(folder)))
    for name, runs in found.items():
        medians = {
            part: {
                "seconds": statistics.median(run[part][0] for run in runs),
                "requests": statistics.median(run[part][1] for run in runs),
                "cpu": statistics.median(run[part][2] for run in runs),
            }
            for part in runs[0]
        }
        print(json.dumps({name: medians}), flush=True)
    print(json.dumps({"load": os.getloadavg()}), flush=True)


if __name__ == "__main__":
    main()
