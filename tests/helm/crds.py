"""What the operators of a cluster demand of the custom objects that the chart makes: fields, types and what is required.

Facts out of the definitions that they publish, of the fields that the chart uses; a field that is not here is refused, as
strict validation refuses one. Read in: Argo CD 3 ``application-crd.yaml`` and ``appproject-crd.yaml``, Flux 2.6 and later
``source.toolkit.fluxcd.io`` and ``kustomize.toolkit.fluxcd.io`` v1, External Secrets ``external-secrets.io`` v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
TRUTH: dict[str, Any] = {"type": "boolean"}
DURATION: dict[str, Any] = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"}
#: Name of an object, as ``metadata.name`` and references to it are checked.
NAME: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 253,
    "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}


def record(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def each(item: Any, **more: Any) -> dict[str, Any]:
    """A list of such items."""
    return {"type": "array", "items": item, **more}


GROUP_KIND = record(("group", "kind"), group=TEXT, kind=TEXT)
DESTINATION = record((), server=TEXT, name=TEXT, namespace=TEXT)
REMOTE = record(
    ("key",),
    key=TEXT,
    property=TEXT,
    version=TEXT,
    conversionStrategy={"enum": ["Default", "Unicode"]},
    decodingStrategy={"enum": ["Auto", "Base64", "Base64URL", "None"]},
    metadataPolicy={"enum": ["None", "Fetch"]},
)

SPECS: Mapping[tuple[str, str], dict[str, Any]] = {
    ("argoproj.io/v1alpha1", "Application"): record(
        ("destination", "project"),
        project=TEXT,
        source=record(("repoURL",), repoURL=TEXT, path=TEXT, targetRevision=TEXT),
        destination=DESTINATION,
        syncPolicy=record(
            (),
            automated=record((), prune=TRUTH, selfHeal=TRUTH, allowEmpty=TRUTH),
            syncOptions=each(TEXT),
        ),
    ),
    ("argoproj.io/v1alpha1", "AppProject"): record(
        (),
        description=TEXT,
        sourceRepos=each(TEXT),
        destinations=each(DESTINATION),
        clusterResourceWhitelist=each(GROUP_KIND),
        namespaceResourceWhitelist=each(GROUP_KIND),
        roles=each(
            record(("name",), name=TEXT, description=TEXT, policies=each(TEXT), groups=each(TEXT)),
        ),
    ),
    ("source.toolkit.fluxcd.io/v1", "GitRepository"): record(
        ("interval", "url"),
        interval=DURATION,
        url={"type": "string", "pattern": "^(http|https|ssh)://.*$"},
        ref=record((), branch=TEXT, tag=TEXT, semver=TEXT, name=TEXT, commit=TEXT),
        secretRef=record(("name",), name=TEXT),
        timeout={"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$"},
    ),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"): record(
        ("interval", "prune", "sourceRef"),
        interval=DURATION,
        retryInterval=DURATION,
        timeout=DURATION,
        path=TEXT,
        prune=TRUTH,
        wait=TRUTH,
        targetNamespace={"type": "string", "minLength": 1, "maxLength": 63},
        sourceRef=record(
            ("kind", "name"),
            kind={"enum": ["OCIRepository", "GitRepository", "Bucket", "ExternalArtifact"]},
            name=TEXT,
            namespace=TEXT,
        ),
    ),
    ("external-secrets.io/v1", "ExternalSecret"): record(
        (),
        refreshInterval=TEXT,
        secretStoreRef=record((), kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=NAME),
        target=record((), name=NAME, creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]}),
        data=each(
            record(
                ("remoteRef", "secretKey"),
                secretKey={
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 253,
                    "pattern": "^[-._a-zA-Z0-9]+$",
                },
                remoteRef=REMOTE,
            )
        ),
        dataFrom=each(record((), extract=REMOTE)),
    ),
}
