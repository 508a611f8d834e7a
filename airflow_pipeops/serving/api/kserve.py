"""KServe: the InferenceService that runs our server with a model. It is pure.

``KServeModelOperator`` applies it and waits for it; it may as well be committed to Git.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.arguments import mapping, matching, not_empty, object_name, one_of
from airflow_pipeops.base.documents import whole
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.api.settings import Served, checked

#: The annotation of the pods that names the model: another one makes other pods, and is seen in them.
DIGEST = "pipeops.io/model-sha256"
_PORT = 8080
#: What an operator may hand on beside the model and the image.
_OPTIONS = ("variables", "secrets", "service_account", "resources", "replicas", "mode", "drain_seconds")
_MODES = ("Standard", "Knative")
_OURS = ("HOST", "PORT", "MODEL_URI", "MODEL_SHA256", "MODEL_NAME", "MODEL_VERSION")
_IMAGE = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def inference_service(
    name: str,
    *,
    image: str,
    model: str,
    version: str,
    uri: str,
    sha256: str,
    namespace: str = "",
    variables: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
    service_account: str = "",
    resources: Mapping[str, Any] | None = None,
    replicas: tuple[int, int] = (1, 1),
    mode: str = "",
    drain_seconds: int = 20,
) -> dict[str, Any]:
    """Render the InferenceService of a model.

    :param name: of the object.
    :param image: with this package and its extra ``serving``, by digest.
    :param model: its name, as requests have it.
    :param version: of it.
    :param uri: of its artifact.
    :param sha256: of its artifact.
    :param namespace: of the object.
    :param variables: further variables of the server, such as ``SAMPLE_URI``.
    :param secrets: names of Secrets whose keys are variables too: connections to the storage.
    :param service_account: of the pods.
    :param resources: of the container, in the words of Kubernetes.
    :param replicas: the fewest and the most.
    :param mode: of deployment, ``Standard`` or ``Knative``; empty: as the cluster has it.
    :param drain_seconds: that requests in flight have to end when a pod ends.
    :return: the manifest.
    :raises InvalidInput: naming what is wrong.
    """
    fields = {"name": "model", "version": "version", "sha256": "sha256"}
    one = checked(Served(model, str(version), uri, sha256), fields)
    matching(
        "image", image, _IMAGE, "an image by digest", "Give the reference that BuildImageOperator returns."
    )
    not_empty(
        "uri", uri, "uri is empty", "Give the URI of the artifact, as RegisterModelOperator returns it."
    )
    one_of("mode", mode, ("", *_MODES))
    pair = isinstance(replicas, (list, tuple)) and len(replicas) == 2
    fewest, most = map(whole, replicas) if pair else (None, None)
    if fewest is None or not most or not 0 <= fewest <= most:
        raise InvalidInput(
            f"replicas are {replicas!r}",
            field="replicas",
            value=replicas,
            remedy="Give the fewest and the most.",
        )
    if not (whole(drain_seconds) or 0) > 0:
        raise InvalidInput(
            f"drain_seconds is {drain_seconds!r}",
            field="drain_seconds",
            value=drain_seconds,
            remedy="Give a whole number of seconds.",
        )
    if isinstance(secrets, str):
        raise InvalidInput(
            f"secrets is {secrets!r}", field="secrets", value=secrets, remedy="Give a list of names."
        )
    mapping("variables", variables or {}, "Give names and values.")
    mapping("resources", resources or {}, "Give requests and limits.")
    if clash := sorted(set(variables or {}) & {*_OURS, "MODEL_DRAIN_SECONDS"}):
        raise InvalidInput(
            f"variables set {clash[0]}, which follows from the model",
            field="variables",
            value=clash,
            remedy="Leave it out.",
        )
    settings = {
        "HOST": "0.0.0.0",
        "PORT": str(_PORT),
        "MODEL_NAME": one.name,
        "MODEL_VERSION": one.version,
        "MODEL_URI": one.uri,
        "MODEL_SHA256": one.sha256,
        "MODEL_DRAIN_SECONDS": str(drain_seconds),
        **(variables or {}),
    }
    container: dict[str, Any] = {
        "name": "kserve-container",
        "image": image,
        "command": ["python", "-m", "airflow_pipeops.serving.api.server"],
        "env": [{"name": key, "value": str(value)} for key, value in settings.items()],
        "ports": [{"containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": f"/v2/models/{one.name}/versions/{one.version}/ready", "port": _PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        },
        "resources": dict(
            resources or {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
        ),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in secrets]
    # What is left after the drain is for the last samples.
    predictor: dict[str, Any] = {
        "annotations": {DIGEST: one.sha256},
        "minReplicas": fewest,
        "maxReplicas": most,
        "terminationGracePeriodSeconds": drain_seconds + 15,
        "containers": [container],
    }
    if service_account:
        predictor["serviceAccountName"] = service_account
    metadata: dict[str, Any] = {"name": object_name(name), "annotations": {"prometheus.io/path": "/metrics"}}
    if mode:
        metadata["annotations"]["serving.kserve.io/deploymentMode"] = mode
    if namespace:
        metadata["namespace"] = namespace
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def known(field: str, options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Refuse what is no option of :func:`inference_service`.

    :return: the options.
    :raises InvalidInput: naming one that means nothing.
    """
    remedy = f"Give a mapping of {', '.join(_OPTIONS)}."
    found = mapping(field, options or {}, remedy)
    if unknown := [name for name in found if name not in _OPTIONS]:
        raise InvalidInput(
            f"{field} has the unknown key {unknown[0]!r}", field=field, value=unknown, remedy=remedy
        )
    return found
