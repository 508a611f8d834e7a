"""A pod template of the people who run a cluster, beneath a pod of ours: merged as Airflow's own provider does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_pipeops.exceptions import InvalidInput

_REMEDY = "Give the path of a YAML file that holds a Pod, or the Pod as a mapping."


def template_of(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Read a template.

    :param given: path of a YAML file, or the pod itself; empty for none.
    :return: the pod.
    :raises InvalidInput: for what is none, and for a field that no pod has: Airflow's provider would leave it out.
    """
    if not given:
        return {}
    body = _loaded(given) if isinstance(given, str) else given
    if not isinstance(body, Mapping) or not isinstance(body.get("spec"), Mapping):
        raise InvalidInput("the pod template is no Pod: it has no spec", field="pod_template", remedy=_REMEDY)
    unknown = _lost(body, _understood(body), "")
    if unknown:
        raise InvalidInput(
            f"the pod template has fields that no Pod has: {', '.join(unknown[:5])}",
            field="pod_template",
            value=unknown,
            remedy="Check their spelling and their place.",
        )
    return dict(body)


def merged(template: Mapping[str, Any], pod: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a pod over a template: lists of volumes, mounts and variables are joined, and what the pod says counts.

    :param template: as :func:`template_of` read it; the first container is the main one, whatever its name.
    :param pod: of ours.
    :return: the pod.
    """
    if not template:
        return dict(pod)
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    base, ours = (
        PodGenerator.deserialize_model_dict(dict(template)),
        PodGenerator.deserialize_model_dict(dict(pod)),
    )
    found: dict[str, Any] = PodGenerator.serialize_pod(PodGenerator.reconcile_pods(base, ours))
    return found


def _loaded(path: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the pod template {path} cannot be read: {error}",
            field="pod_template",
            value=path,
            remedy=_REMEDY,
        ) from error
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"the pod template {path} is no YAML: {error}", field="pod_template", value=path, remedy=_REMEDY
        ) from error


def _understood(body: Mapping[str, Any]) -> Any:
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    try:
        return PodGenerator.serialize_pod(PodGenerator.deserialize_model_dict(dict(body)))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"the pod template is no Pod: {error}", field="pod_template", remedy=_REMEDY
        ) from error


def _lost(given: Any, understood: Any, path: str) -> list[str]:
    """Return the fields that were given and not understood."""
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        found = []
        for name, value in given.items():
            if name not in understood and value is not None:
                found.append(f"{path}{name}")
            elif name in understood:
                found += _lost(value, understood[name], f"{path}{name}.")
        return found
    if isinstance(given, list) and isinstance(understood, list):
        return [
            lost
            for number, (one, other) in enumerate(zip(given, understood, strict=False))
            for lost in _lost(one, other, f"{path}{number}.")
        ]
    return []
