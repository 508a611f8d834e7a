"""What the cluster admits: checks with clear errors, and Kubernetes' defaults. Pure."""

from __future__ import annotations

import copy
import re
from typing import Any

from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.exceptions import InvalidInput

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_RBAC_NAME = re.compile(r"[^/%]{1,253}")


def _refuse(
    obj: dict[str, Any], field: str, problem: str, *, value: object = None, remedy: str = ""
) -> InvalidInput:
    kind = obj.get("kind", "object")
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    name = (obj.get("metadata") or {}).get("name", "")
    title = f"{kind}.{group}" if group else kind
    return InvalidInput(
        f'{title} "{name}" is invalid: {field}: {problem}', field=field, value=value, remedy=remedy
    )


def check(manifest: Any) -> dict[str, Any]:
    """Return a copy of a manifest with defaults set, or say what is wrong with it.

    :return: the copy.
    :raises InvalidInput: malformed, or more than a sandbox of local processes can run.
    """
    if not isinstance(manifest, dict):
        raise InvalidInput("a manifest must be a mapping", field="manifest", value=type(manifest).__name__)
    obj = copy.deepcopy(manifest)
    for field in ("apiVersion", "kind"):
        if not isinstance(obj.get(field), str) or not obj[field]:
            raise _refuse(obj, field, "Required value", remedy=f"Add {field} at the top of the manifest.")
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        obj["metadata"] = {}
        raise _refuse(obj, "metadata.name", "Required value", remedy="Give the object a name.")
    pattern = _RBAC_NAME if obj["apiVersion"].startswith("rbac.") else _NAME
    if not pattern.fullmatch(meta["name"]):
        raise _refuse(
            obj,
            "metadata.name",
            f"Invalid value: {meta['name']!r}",
            value=meta["name"],
            remedy="Use lower-case letters, digits, '-' and '.'.",
        )
    for field in ("labels", "annotations"):
        _check_strings(obj, meta.get(field), f"metadata.{field}")
    checker = _CHECKERS.get((Key.of(obj).group, obj["kind"]))
    if checker:
        if not isinstance(obj.get("spec"), dict):
            raise _refuse(obj, "spec", "Required value")
        checker(obj)
    elif obj["kind"] in ("ConfigMap", "Secret"):
        _check_strings(obj, obj.get("data"), "data", remedy="Quote the value in the manifest.")
    return obj


def check_immutable(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse a change of what Kubernetes does not let change: a Job's template, a Deployment's selector."""
    for field in {"Job": ("template", "completions"), "Deployment": ("selector",)}.get(new["kind"], ()):
        if old["spec"].get(field) != new["spec"].get(field):
            raise _refuse(
                new,
                f"spec.{field}",
                "field is immutable",
                remedy="Delete the object first, or give it another name.",
            )


def _check_strings(obj: dict[str, Any], value: Any, field: str, remedy: str = "Quote the value.") -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise _refuse(obj, field, "must be a mapping")
    for name, item in value.items():
        if not isinstance(item, str):
            raise _refuse(
                obj, f"{field}.{name}", f"must be a string, not {type(item).__name__}", remedy=remedy
            )


def _count(obj: dict[str, Any], field: str, default: int) -> None:
    value = obj["spec"].setdefault(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _refuse(
            obj, f"spec.{field}", f"Invalid value: {value!r}", value=value, remedy="Give a number >= 0."
        )


def _check_pod_spec(
    obj: dict[str, Any], spec: Any, path: str, policies: tuple[str, ...], policy: str
) -> None:
    if not isinstance(spec, dict):
        raise _refuse(obj, path, "Required value")
    if spec.setdefault("restartPolicy", policy) not in policies:
        raise _refuse(
            obj,
            f"{path}.restartPolicy",
            f"Unsupported value: {spec['restartPolicy']!r}",
            remedy=f"Use one of: {', '.join(policies)}.",
        )
    spec.setdefault("terminationGracePeriodSeconds", 30)
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        raise _refuse(obj, f"{path}.containers", "Required value", remedy="Name at least one container.")
    if spec.get("initContainers") or len(containers) > 1:
        names = [
            c.get("name") for c in (spec.get("initContainers") or []) + containers[1:] if isinstance(c, dict)
        ]
        raise _refuse(
            obj,
            f"{path}.containers",
            f"the sandbox runs one container in a pod, and cannot run {', '.join(map(str, names))}",
            remedy="Leave further containers to an overlay for a real cluster.",
        )
    _check_container(obj, containers[0], f"{path}.containers[0]")
    for index, volume in enumerate(spec.get("volumes") or []):
        if "emptyDir" not in volume:
            raise _refuse(
                obj,
                f"{path}.volumes[{index}]",
                "the sandbox runs local processes and mounts nothing",
                remedy="Pass the values by env or envFrom.",
            )


def _check_container(obj: dict[str, Any], container: Any, path: str) -> None:
    if not isinstance(container, dict) or not container.get("name"):
        raise _refuse(obj, f"{path}.name", "Required value")
    if not isinstance(container.get("image"), str) or not container["image"]:
        raise _refuse(
            obj, f"{path}.image", "Required value", remedy="Name the image by digest: name@sha256:..."
        )
    for field in ("command", "args"):
        value = container.get(field)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise _refuse(obj, f"{path}.{field}", "must be a list of strings", remedy="Quote numbers.")
    for index, env in enumerate(container.get("env") or []):
        if not isinstance(env, dict) or not isinstance(env.get("name"), str) or not env["name"]:
            raise _refuse(obj, f"{path}.env[{index}].name", "Required value")
        if "value" in env and not isinstance(env["value"], str | None):
            raise _refuse(
                obj,
                f"{path}.env[{index}].value",
                f"must be a string, not {type(env['value']).__name__}",
                remedy=f'Quote it: value: "{env["value"]}"',
            )
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container.get(probe) and not {"httpGet", "tcpSocket", "exec"} & set(container[probe]):
            raise _refuse(
                obj, f"{path}.{probe}", "must specify a handler", remedy="Use httpGet, tcpSocket or exec."
            )


def _check_selected(obj: dict[str, Any]) -> None:
    spec = obj["spec"]
    template = spec.get("template")
    if not isinstance(template, dict):
        raise _refuse(obj, "spec.template", "Required value")
    wanted = (spec.get("selector") or {}).get("matchLabels")
    if not isinstance(wanted, dict) or not wanted:
        raise _refuse(obj, "spec.selector.matchLabels", "Required value")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if any(labels.get(k) != v for k, v in wanted.items()):
        raise _refuse(obj, "spec.template.metadata.labels", "`selector` does not match template `labels`")
    _count(obj, "replicas", 1)
    _check_pod_spec(obj, template.get("spec"), "spec.template.spec", ("Always",), "Always")


def _check_deployment(obj: dict[str, Any]) -> None:
    _check_selected(obj)
    _count(obj, "progressDeadlineSeconds", 600)
    _count(obj, "revisionHistoryLimit", 10)
    strategy = obj["spec"].setdefault("strategy", {"type": "RollingUpdate"})
    if strategy.setdefault("type", "RollingUpdate") not in ("RollingUpdate", "Recreate"):
        raise _refuse(obj, "spec.strategy.type", f"Unsupported value: {strategy['type']!r}")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        for field in ("maxSurge", "maxUnavailable"):
            value = rolling.setdefault(field, "25%")
            if not re.fullmatch(r"\d+%?", str(value)):
                raise _refuse(obj, f"spec.strategy.rollingUpdate.{field}", f"Invalid value: {value!r}")
    else:
        strategy.pop("rollingUpdate", None)


def _check_job(obj: dict[str, Any]) -> None:
    template = obj["spec"].get("template")
    if not isinstance(template, dict):
        raise _refuse(obj, "spec.template", "Required value")
    for field, default in (("backoffLimit", 6), ("completions", 1), ("parallelism", 1)):
        _count(obj, field, default)
    _check_pod_spec(obj, template.get("spec"), "spec.template.spec", ("OnFailure", "Never"), "")


def _check_pod(obj: dict[str, Any]) -> None:
    _check_pod_spec(obj, obj["spec"], "spec", ("Always", "OnFailure", "Never"), "Always")


def _check_service(obj: dict[str, Any]) -> None:
    spec = obj["spec"]
    if spec.setdefault("type", "ClusterIP") not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        raise _refuse(obj, "spec.type", f"Unsupported value: {spec['type']!r}")
    for index, port in enumerate(spec.get("ports") or []):
        for field in ("port", "nodePort"):
            value = port.get(field) if isinstance(port, dict) else None
            if field == "nodePort" and value is None:
                continue
            if not isinstance(value, int) or not 0 < value < 65536:
                raise _refuse(obj, f"spec.ports[{index}].{field}", f"Invalid value: {value!r}", value=value)


def port_taken(obj: dict[str, Any], index: int, port: int, by: str) -> InvalidInput:
    """Return the error for a Service whose nodePort is not free."""
    return _refuse(
        obj,
        f"spec.ports[{index}].nodePort",
        f"Invalid value: {port}: provided port is already allocated (by {by})",
        value=port,
        remedy="Choose another nodePort, or end what uses it.",
    )


_CHECKERS = {
    ("apps", "Deployment"): _check_deployment,
    ("apps", "ReplicaSet"): _check_selected,
    ("batch", "Job"): _check_job,
    ("", "Pod"): _check_pod,
    ("", "Service"): _check_service,
}
