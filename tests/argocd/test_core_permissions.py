"""The permissions that docs/argocd-core.md asks for are enough, and none of them is for nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from airflow_pipeops.argocd.clients.kubernetes import ArgoCDCoreClient
from airflow_pipeops.argocd.clients.protocol import Resource
from airflow_pipeops.exceptions import AccessDenied
from tests.argocd.controller import APPLICATIONS, Controller
from tests.argocd.worlds import CoreWorld
from tests.kubernetes.apiserver import serving

PAGE = Path(__file__).parents[2] / "docs" / "argocd-core.md"
KINDS = (
    APPLICATIONS,
    ("batch", "v1", "jobs"),
    *(("apps", "v1", plural) for plural in ("deployments", "statefulsets", "daemonsets", "replicasets")),
)


def documented() -> set[tuple[str, str]]:
    """Return the pairs of verb and resource of the page's roles."""
    block = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    pairs = set()
    for role in yaml.safe_load_all(block.group(1)):
        for rule in role["rules"]:
            for resource in rule["resources"]:
                base, _, sub = resource.partition("/")
                name = f"{base}.{rule['apiGroups'][0]}".rstrip(".") + (f"/{sub}" if sub else "")
                pairs |= {(verb, name) for verb in rule["verbs"]}
    return pairs


def allowing(pairs: set[tuple[str, str]]) -> Callable[[str, str, str], bool]:
    return lambda verb, target, namespace: (verb, target) in pairs


def story(pairs: set[tuple[str, str]]) -> None:
    """Everything that a delivery does, with no more than these permissions."""
    with serving(*KINDS, bookmarks=0.2) as api, Controller(api) as controller:
        world = CoreWorld(api, controller)
        app, commit = world.make()
        kinds = {"jobs": "Job", "deployments": "Deployment", "statefulsets": "StatefulSet"}
        kinds |= {"daemonsets": "DaemonSet", "replicasets": "ReplicaSet"}
        for plural, kind in kinds.items():
            spec = {"selector": {"matchLabels": {"of": kind}}}
            group, version, _ = next(known for known in KINDS if known[2] == plural)
            api.put(group, version, plural, {"metadata": {"name": "x", "namespace": "ns"}, "spec": spec})
            labels = {"name": f"pod-{plural}", "namespace": "ns", "labels": {"of": kind}}
            api.put("", "v1", "pods", {"metadata": labels})
            api.pod_logs["ns", f"pod-{plural}"] = f"{kind} says\n"
        api.tokens = {"narrow": allowing(pairs)}

        async def inside() -> None:
            async with world.client("narrow", attempts=1) as client:
                assert isinstance(client, ArgoCDCoreClient)
                assert [found["metadata"]["name"] for found in await client.applications()] == [app.name]
                assert await client.refresh(app) is not None
                await client.sync(app, {"revision": commit})
                async for event in client.watch(name=app.name):
                    if not event["application"].get("operation"):
                        break
                assert await client.events(app, Resource("Job", "x", "ns", "batch")) == []
                for plural, kind in kinds.items():
                    group = "batch" if plural == "jobs" else "apps"
                    assert await client.logs(app, Resource(kind, "x", "ns", group)) == [f"{kind} says"]

        asyncio.run(asyncio.wait_for(inside(), 30))


def test_they_are_enough() -> None:
    story(documented())


@pytest.mark.parametrize("pair", sorted(documented()), ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_none_is_for_nothing(pair: tuple[str, str]) -> None:
    with pytest.raises(AccessDenied):
        story(documented() - {pair})
