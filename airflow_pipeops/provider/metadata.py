"""What Airflow's provider manager reads: connection types and their forms, configuration, the asset scheme.

Only plain data: nothing here imports a hook, so the forms cost nothing.
"""

from __future__ import annotations

from typing import Any


def _text(label: str, description: str = "", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _connection_types() -> list[dict[str, Any]]:
    return [
        {
            "connection-type": "argo_workflows",
            "hook-class-name": "airflow_pipeops.argo_workflows.hook.ArgoWorkflowsHook",
            "hook-name": "Argo Workflows",
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "login", "port"],
                "relabeling": {"host": "Server URL", "password": "Token"},
                "placeholders": {
                    "host": "https://argo-workflows.example.com",
                    "password": "that of a service account",
                },
            },
            "conn-fields": {
                "namespace": _text("Namespace", "Of the workflows; argo by default."),
                "verify_tls": {
                    "label": "Verify TLS",
                    "description": "Switch off only for a throw-away server.",
                    "schema": {"type": ["boolean", "null"], "default": True},
                },
                "ca_file": _text("CA file", "Path of a PEM file for a private certificate authority."),
                "timeout": {
                    "label": "Timeout (s)",
                    "description": "For one call; 20 by default.",
                    "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 600},
                },
                "mode": {
                    "label": "Mode",
                    "description": "How the triggerer hears of workflows.",
                    "schema": {
                        "type": ["string", "null"],
                        "enum": ["auto", "stream", "poll"],
                        "values_display": {"auto": "auto: a stream, and polls where none works"},
                        "default": "auto",
                    },
                },
            },
        },
        {
            "connection-type": "argocd",
            "hook-class-name": "airflow_pipeops.argocd.hook.ArgoCDHook",
            "hook-name": "Argo CD",
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "login", "port"],
                "relabeling": {"host": "Server URL", "password": "API token"},
                "placeholders": {"host": "https://argocd.example.com", "password": "a project role token"},
            },
            "conn-fields": {
                "project": _text(
                    "Project",
                    "Sent with every call, so that a missing application is told from a forbidden one.",
                ),
                "verify_tls": {
                    "label": "Verify TLS",
                    "description": "Switch off only for a throw-away server.",
                    "schema": {"type": ["boolean", "null"], "default": True},
                },
                "ca_file": _text("CA file", "Path of a PEM file for a private certificate authority."),
                "timeout": {
                    "label": "Timeout (s)",
                    "description": "For one call; 20 by default.",
                    "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 600},
                },
                "mode": {
                    "label": "Mode",
                    "description": "How the triggerer hears of applications.",
                    # No null among the choices: Airflow would show it as one, by the name "null".
                    "schema": {
                        "type": ["string", "null"],
                        "enum": ["auto", "stream", "poll"],
                        "values_display": {"auto": "auto: a stream, and polls where none works"},
                        "default": "auto",
                    },
                },
            },
        },
        {
            "connection-type": "container_registry",
            "hook-class-name": "airflow_pipeops.build.hook.RegistryHook",
            "hook-name": "Container registry",
            "ui-field-behaviour": {
                "hidden-fields": ["schema"],
                "relabeling": {"host": "Registry", "password": "Password or token", "login": "User or robot"},
                "placeholders": {"host": "registry.example.com/team"},
            },
            "conn-fields": {
                "auth_file": _text(
                    "Auth file",
                    "Path of a config.json of Docker or an auth.json of Podman, in place of user and password.",
                ),
                "ca_file": _text("CA file", "Path of a PEM file for a private certificate authority."),
                "verify_tls": {
                    "label": "Verify TLS",
                    "description": "Switch off only for a throw-away registry.",
                    "schema": {"type": ["boolean", "null"], "default": True},
                },
                "timeout": {
                    "label": "Timeout (s)",
                    "description": "Without progress, after which a call is given up; 60 by default.",
                    "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 3600},
                },
            },
        },
        {
            "connection-type": "git_repository",
            "hook-class-name": "airflow_pipeops.git.hook.GitHook",
            "hook-name": "Git repository",
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "port"],
                "relabeling": {
                    "host": "Repository URL",
                    "password": "Token or password",
                    "login": "User name",
                },
                "placeholders": {"host": "https://git.example.com/team/deploy.git"},
            },
            "conn-fields": {
                "branch": _text("Branch", "main by default."),
                "author_name": _text("Author name", "Of the commits written here."),
                "author_email": _text("Author email"),
                # Airflow's field for passwords has one line, in which a key loses its line ends. What is stored is masked
                # by its name.
                "private_key": _text(
                    "SSH private key",
                    "The key itself, for ssh:// URLs. Line breaks may be missing; Base64 of the file will do.",
                    format="multiline",
                ),
                "private_key_passphrase": _text("Passphrase", "Of the SSH private key.", format="password"),
                "signing_private_key": _text(
                    "Signing key", "An SSH private key that commits are signed with.", format="multiline"
                ),
                "signing_private_key_passphrase": _text(
                    "Passphrase", "Of the signing key.", format="password"
                ),
                "known_hosts": _text(
                    "SSH known hosts",
                    "Lines of a known_hosts file; an unknown host is refused.",
                    format="multiline",
                ),
                "ca_file": _text("CA file", "Path of a PEM file for a private certificate authority."),
                "timeout": _text(
                    "Timeout", "Seconds without progress after which Git is ended; 60 by default."
                ),
            },
        },
        {
            "connection-type": "mlflow",
            "hook-class-name": "airflow_pipeops.models.hook.MLflowHook",
            "hook-name": "MLflow",
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "port"],
                "relabeling": {"host": "Tracking URI", "password": "Password or token", "login": "User name"},
                "placeholders": {"host": "https://mlflow.example.com"},
            },
            "conn-fields": {
                "ca_file": _text("CA file", "Path of a PEM file for a private certificate authority."),
                "timeout": _text("Timeout", "Seconds for one call to a server; 30 by default."),
            },
        },
        {
            "connection-type": "pipeops_signing_key",
            "hook-class-name": "airflow_pipeops.delivery.ledger.hook.SigningKeyHook",
            "hook-name": "Signing key",
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "port", "host", "password"],
                "relabeling": {"login": "Name of the key"},
                "placeholders": {"login": "pipeops.example.com"},
            },
            "conn-fields": {
                "private_key": _text(
                    "Ed25519 private key",
                    "PEM or OpenSSH. Line breaks may be missing; Base64 of the file will do.",
                    format="multiline",
                ),
            },
        },
        {
            "connection-type": "pipeops_storage",
            "hook-class-name": "airflow_pipeops.base.storage.StorageHook",
            "hook-name": "Folder or object storage",
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "port", "login", "password"],
                "relabeling": {"host": "URI"},
                "placeholders": {"host": "s3://bucket/prefix or file:///srv/data"},
            },
            "conn-fields": {
                "storage_conn_id": _text(
                    "Credentials", "Id of the connection that opens this scheme, for example aws_default."
                )
            },
        },
    ]


def get_provider_info() -> dict[str, Any]:
    """Return the provider metadata of this package."""
    return {
        "package-name": "airflow-pipeops",
        "name": "PipeOps",
        "description": "One delivery graph for code, infrastructure, models and prompts: Git, Argo CD, registries, gates.",
        "integrations": [
            {
                "integration-name": "PipeOps",
                "external-doc-url": "https://argo-cd.readthedocs.io/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "PipeOps",
                "python-modules": [
                    f"airflow_pipeops.{subject}.operators"
                    for subject in (
                        "argo_workflows",
                        "argocd",
                        "build",
                        "build.cluster",
                        "deploy",
                        "deploy.apply",
                        "deploy.differences",
                        "deploy.helm",
                        "drift",
                        "flux",
                        "git",
                        "governor",
                        "llm.evaluation",
                        "llm.production",
                        "models",
                        "operations.anomalies",
                        "operations.remediation",
                        "operations.tuning",
                        "serving.api",
                        "serving.stream",
                        "validation",
                    )
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "PipeOps",
                "python-modules": [
                    f"airflow_pipeops.{subject}.sensors"
                    for subject in (
                        "argo_workflows",
                        "argocd",
                        "deploy",
                        "flux",
                        "llm.production",
                        "serving.stream",
                    )
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": "PipeOps",
                "python-modules": [
                    "airflow_pipeops.argo_workflows.hook",
                    "airflow_pipeops.argocd.hook",
                    "airflow_pipeops.build.hook",
                    "airflow_pipeops.flux.hook",
                    "airflow_pipeops.git.hook",
                    "airflow_pipeops.models.hook",
                    "airflow_pipeops.base.storage",
                    "airflow_pipeops.delivery.ledger.hook",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "PipeOps",
                "python-modules": [
                    f"airflow_pipeops.{subject}.triggers"
                    for subject in (
                        "argo_workflows",
                        "argocd",
                        "build.cluster",
                        "build.workflows",
                        "deploy",
                        "flux",
                        "git",
                        "llm.production",
                        "serving.stream",
                        "validation",
                    )
                ]
                + [
                    "airflow_pipeops.argo_workflows.watchers",
                    "airflow_pipeops.argocd.watchers",
                    "airflow_pipeops.base.setup",
                    "airflow_pipeops.deploy.watchers",
                    "airflow_pipeops.flux.watchers",
                    "airflow_pipeops.operations.anomalies.watchers",
                ],
            }
        ],
        "extra-links": [
            f"airflow_pipeops.delivery.links.{name}" for name in ("ReportLink", "LogLink", "CommitLink")
        ],
        "task-decorators": [
            {"name": name, "class-name": f"airflow_pipeops.{path}"}
            for name, path in (
                ("argocd_application", "argocd.decorators.application_task"),
                ("validate_data", "validation.decorators.validate_data_task"),
                ("data_drift", "drift.decorators.data_drift_task"),
            )
        ],
        "bundles": [{"integration-name": "PipeOps", "python-modules": ["airflow_pipeops.provider.examples"]}],
        "connection-types": _connection_types(),
        "cli": ["airflow_pipeops.provider.commands.commands"],
        "asset-uris": [
            {
                "schemes": ["pipeops"],
                "handler": "airflow_pipeops.provider.uris.sanitize_uri",
                "to_openlineage_converter": "airflow_pipeops.delivery.lineage.dataset_of",
            }
        ],
        "config": {
            "pipeops": {
                "description": "Settings of airflow-pipeops.",
                "options": {
                    "evidence_uri": {
                        "description": "Folder or object-store prefix for the files that back records. "
                        "By default a folder below AIRFLOW_HOME, which suits one machine only.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my-bucket/pipeops/evidence",
                        "default": "",
                    },
                    "ledger_path": {
                        "description": "Folder or object-store prefix of the ledger. By default a folder below "
                        "AIRFLOW_HOME, which suits one API server only.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my-bucket/pipeops/ledger",
                        "default": "",
                    },
                    "index_path": {
                        "description": "File of the ledger's index, on a disk of the API server; it can be deleted. "
                        "By default pipeops/index.db below AIRFLOW_HOME.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/var/lib/airflow/pipeops-index.db",
                        "default": "",
                    },
                    "ledger_key_conn_id": {
                        "description": "Connection of type Signing key, whose key signs the ledger's checkpoints and what "
                        "is exported from it; without one nothing is signed.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "pipeops_signing_key",
                        "default": "",
                    },
                    "accept_posted_events": {
                        "description": "Assets, by name or URI and separated by commas, whose events may be posted "
                        "through Airflow's API. What is posted to any other is no signal and no evidence: whoever may "
                        "post events could make up releases, batches and decisions.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "delay-api.push",
                        "default": "",
                    },
                    "builder": {
                        "description": "Image builder of tasks that name none: auto (the first engine that works), "
                        "buildah, podman, docker, or the import path of a class of your own.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "buildah",
                        "default": "auto",
                    },
                    "registry_conn_id": {
                        "description": "Connection of the container registry that images go to where a task names none; "
                        "without one they are kept in a folder.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "container_registry_default",
                        "default": "",
                    },
                },
            }
        },
    }
