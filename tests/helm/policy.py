"""What nothing that the chart makes may do. Pure: an object in, what is wrong with it out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET_?KEY|PRIVATE|CREDENTIAL|AIRFLOW_CONN_", re.IGNORECASE)
#: Whoever may do these may do everything, or becomes somebody else.
POWERS = frozenset({"escalate", "bind", "impersonate", "deletecollection"})
MEANS = frozenset(
    {"roles", "rolebindings", "serviceaccounts", "serviceaccounts/token", "pods/exec", "pods/attach"}
)

#: What a volume may be of.
VOLUMES = frozenset(
    {
        *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
        *("projected", "secret"),
    }
)


def violations(item: Object) -> list[str]:
    """Look at one object.

    :return: what it may not do, each with where that is; nothing for a good one.
    """
    found = [*_rights(item), *_secrets(item)]
    for where, pod, container in containers(item):
        found += [
            f"{where}: {said}"
            for said in (*restricted(pod, container), *_resources(container), *unreadable(pod, container))
        ]
        found += [
            f"{where}: variable {one['name']} holds a secret in plain sight"
            for one in container.get("env", [])
            if "value" in one and _SECRET_NAME.search(one["name"])
        ]
    return found


def containers(item: Object) -> Iterator[tuple[str, Object, Object]]:
    """Yield each container of what an object runs: where it is, the spec of its pod, and itself."""
    spec = item.get("spec", {})
    if item["kind"] == "WorkflowTemplate":
        for template in spec["templates"]:
            context = template.get("securityContext", spec.get("securityContext", {}))
            pod = {**spec, "volumes": template.get("volumes", []), "securityContext": context}
            own = [template["container"], *template.get("initContainers", [])]
            yield from ((f"{template['name']}/{one.get('name', 'main')}", pod, one) for one in own)
        return
    pod = spec if item["kind"] == "Pod" else spec.get("template", {}).get("spec", {})
    for one in (*pod.get("initContainers", []), *pod.get("containers", [])):
        yield one["name"], pod, one


def restricted(pod: Object, container: Object) -> Iterator[str]:
    """What the Pod Security Standard "restricted" forbids, of that Kubernetes 1.30 and later enforce."""
    whole, own = pod.get("securityContext", {}), container.get("securityContext", {})
    both = {**whole, **own}
    capabilities, apparmor = own.get("capabilities", {}), both.get("appArmorProfile", {})
    allowed = ("RuntimeDefault", "Localhost")
    facts = {
        "allowPrivilegeEscalation is not false": own.get("allowPrivilegeEscalation") is not False,
        "capabilities are not dropped": "ALL" not in capabilities.get("drop", [])
        or bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}),
        "it may run as root": both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0,
        "no seccomp profile": both.get("seccompProfile", {}).get("type") not in allowed,
        "no AppArmor profile": apparmor.get("type", allowed[0]) not in allowed,
        "it is privileged": own.get("privileged") or own.get("procMount", "Default") != "Default",
        "it shares the node": any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
        "it takes a port of the node": any(port.get("hostPort") for port in container.get("ports", [])),
    }
    yield from (said for said, so in facts.items() if so)
    for volume in pod.get("volumes", []):
        if set(volume) - VOLUMES:
            yield f"volume {volume['name']} is of the node"


def unreadable(pod: Object, container: Object) -> Iterator[str]:
    """Secrets that a container has mounted and may not read: files of root, and of the group that the pod names."""
    whole = pod.get("securityContext", {})
    if {**whole, **container.get("securityContext", {})}.get("runAsUser") == 0 or "fsGroup" in whole:
        return
    mounted = {one["name"] for one in container.get("volumeMounts", [])}
    for volume in pod.get("volumes", []):
        secret = volume.get("secret", {})
        modes = [
            secret.get("defaultMode", 0o644),
            *(item.get("mode", 0o644) for item in secret.get("items", [])),
        ]
        if volume["name"] in mounted and not all(mode & 0o004 for mode in modes):
            yield f"the Secret of volume {volume['name']} cannot be read: no fsGroup"


def _resources(container: Object) -> Iterator[str]:
    requests = container.get("resources", {}).get("requests", {})
    if not {"cpu", "memory"} <= set(requests):
        yield "no requests"


DEFINITIONS = {
    "apiGroups": ["apiextensions.k8s.io"],
    "resources": ["customresourcedefinitions"],
    "verbs": ["get"],
}


def _rights(item: Object) -> Iterator[str]:
    # Definitions are of no namespace, and may be read.
    if item["kind"] == "ClusterRole" and item.get("rules") != [DEFINITIONS]:
        yield "it is of the whole cluster"
    if item["kind"] == "ClusterRoleBinding" and not item["roleRef"]["name"].endswith("-definitions"):
        yield "it is of the whole cluster"
    for rule in item.get("rules", []) if item["kind"] == "Role" else []:
        for field in ("apiGroups", "resources", "verbs"):
            if any("*" in one for one in rule[field]):
                yield f"a wildcard in {field}"
        for one in (set(rule["verbs"]) & POWERS) | (set(rule["resources"]) & MEANS):
            yield f"{one} makes everything possible"


def _secrets(item: Object) -> Iterator[str]:
    if item["kind"] == "Secret" and item["type"] == "Opaque" and "stringData" in item:
        yield "a secret in plain sight"
