"""What the API shows of an Application beyond its own document: tree, managed resources, manifests."""

from __future__ import annotations

import json
from typing import Any

from airflow_pipeops.demo.sandbox.compare import ResourceState, predict
from airflow_pipeops.demo.sandbox.manifests import Manifest, images, mask_secrets
from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.key import Key


def resource_tree(cluster: Cluster, states: list[ResourceState]) -> dict[str, Any]:
    """Return the live resources of an Application and everything that they own."""
    nodes = []
    for state in states:
        if state.live is None:
            nodes.append(_reference(state.key, state.target or {}) | {"health": {"status": "Missing"}})
            continue
        nodes.append(_node(cluster, state.live, []))
        uids = {state.live["metadata"].get("uid"): state.live}
        for child in cluster.children(state.key):
            uids[child["metadata"].get("uid")] = child
            owners = [
                uids[o["uid"]] for o in child["metadata"].get("ownerReferences", []) if o.get("uid") in uids
            ]
            nodes.append(_node(cluster, child, owners or [state.live]))
    return {"nodes": nodes, "orphanedNodes": [], "hosts": []}


def _reference(key: Key, manifest: Manifest) -> dict[str, Any]:
    version = str(manifest.get("apiVersion", "")).rpartition("/")[2]
    fields = {
        "group": key.group,
        "version": version,
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
    }
    return {name: value for name, value in fields.items() if value}


def _node(cluster: Cluster, live: Manifest, owners: list[Manifest]) -> dict[str, Any]:
    metadata = live["metadata"]
    node = _reference(Key.of(live), live)
    node["uid"] = metadata.get("uid", "")
    node["resourceVersion"] = str(metadata.get("resourceVersion", ""))
    if metadata.get("creationTimestamp"):
        node["createdAt"] = metadata["creationTimestamp"]
    if owners:
        node["parentRefs"] = [
            {**_reference(Key.of(item), item), "uid": item["metadata"].get("uid", "")} for item in owners
        ]
    if images(live):
        node["images"] = images(live)
    status, message = cluster.health(live)
    if status:
        node["health"] = {"status": status, **({"message": message} if message else {})}
    return node


def managed_resource(cluster: Cluster, state: ResourceState) -> dict[str, Any]:
    """Return desired, live and expected state of one resource, as JSON texts; secrets are masked."""
    before = cluster.last_applied(state.key)
    expected = predict(state.target, state.live, before)
    target, live, predicted = mask_secrets(state.target, state.live, expected)
    return {
        "group": state.key.group,
        "kind": state.key.kind,
        "namespace": state.key.namespace,
        "name": state.key.name,
        "targetState": json.dumps(target),
        "liveState": json.dumps(live),
        "normalizedLiveState": json.dumps(live),
        "predictedLiveState": json.dumps(predicted),
        "hook": False,
        "resourceVersion": str((state.live or {}).get("metadata", {}).get("resourceVersion", "")),
        "modified": not state.synced,
    }


def manifest_texts(targets: list[Manifest]) -> list[str]:
    """Return manifests as JSON texts; secrets are masked."""
    return [json.dumps(mask_secrets(target)[0]) for target in targets]
