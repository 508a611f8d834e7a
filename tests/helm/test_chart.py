"""The chart, rendered by a real Helm engine."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.programs import CHART

SECRET = "s3cret-t0ken"
CONNECTIONS = {
    "connections": {
        "values": {
            "argocd_default": {
                "conn_type": "argocd",
                "host": "https://argocd.example.com",
                "password": SECRET,
            },
            "pipeops_app_repo": {
                "conn_type": "git_repository",
                "host": "https://git/x",
                "extra": {"branch": "main"},
            },
        }
    }
}
APPLICATION = {"argocd": {"application": {"enabled": True, "repoURL": "https://git/gitops", "path": "apps"}}}
RBAC = {f: {"rbac": {f: {"enabled": True}}} for f in ("argocd", "flux", "argoWorkflows", "build", "deploy")}
EVERYTHING: dict[str, Any] = {
    **CONNECTIONS,
    **APPLICATION,
    "rbac": {f: {"enabled": True} for f in RBAC},
    "workflows": {"enabled": True, "gitSecret": "git-login", "registrySecret": "registry-login"},
    "networkPolicy": {"enabled": True},
    "tests": {"image": "registry.example.com/airflow-pipeops:0.1.0"},
    "commonLabels": {"team": "data"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
}
WORKFLOWS = {"workflows": {"enabled": True}}
NAMESPACED = {
    *("Secret", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Pod", "Application"),
    *("WorkflowTemplate", "AppProject", "Job", "StatefulSet", "Service"),
}


def text(values: dict[str, Any] | None = None) -> dict[str, str]:
    return helm_python.Chart.load(CHART).render(values or {}, name="pipeops", namespace="airflow")


def render(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    found = []
    for path, content in text(values).items():
        if path.endswith(".yaml"):
            found += [document for document in yaml.safe_load_all(content) if document]
    return found


def kinds(values: dict[str, Any] | None = None) -> list[str]:
    return sorted(document["kind"] for document in render(values))


def one(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    (document,) = [document for document in render(values) if document["kind"] == kind]
    return document


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_lint_has_nothing_to_say(values) -> None:
    report = helm_python.lint(CHART, values, strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


def test_the_default_is_one_account_that_may_do_nothing() -> None:
    (account,) = render()
    assert (account["kind"], account["metadata"]["name"]) == ("ServiceAccount", "pipeops")
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (CONNECTIONS, ["Secret", "ServiceAccount"]),
        ({"connections": {"existingSecret": "mine"}}, ["ServiceAccount"]),
        ({"serviceAccount": {"create": False}}, []),
        (RBAC["argocd"], ["Role", "RoleBinding", "ServiceAccount"]),
        (RBAC["flux"], ["Role", "RoleBinding", "ServiceAccount"]),
        (RBAC["argoWorkflows"], ["Role", "RoleBinding", "ServiceAccount"]),
        (RBAC["build"], ["Role", "RoleBinding", "ServiceAccount"]),
        (RBAC["deploy"], ["Role", "RoleBinding", "ServiceAccount"]),
        ({"serviceAccount": {"perDuty": True}}, ["ServiceAccount"] * 4),
        (
            WORKFLOWS,
            [
                *("Role", "RoleBinding", "Secret", "ServiceAccount", "ServiceAccount"),
                *("WorkflowTemplate", "WorkflowTemplate"),
            ],
        ),
        (
            {"workflows": {"enabled": True, "serviceAccount": {"create": False, "name": "mine"}}},
            ["ServiceAccount", "WorkflowTemplate", "WorkflowTemplate"],
        ),
        ({"rbac": {"create": False, "argocd": {"enabled": True}}}, ["ServiceAccount"]),
        (APPLICATION, ["Application", "ServiceAccount"]),
        ({"networkPolicy": {"enabled": True}}, ["NetworkPolicy", "ServiceAccount"]),
        ({"tests": {"image": "x"}}, ["Pod", "ServiceAccount"]),
    ],
)
def test_each_flag_makes_its_objects_and_no_other(values, expected) -> None:
    assert kinds(values) == expected


@pytest.mark.parametrize("flag", RBAC)
def test_each_flag_alone_gives_a_token_to_use_its_rights_with(flag: str) -> None:
    assert one("ServiceAccount", RBAC[flag])["automountServiceAccountToken"] is True
    without = {"rbac": {"create": False, flag: {"enabled": True}}}
    assert one("ServiceAccount", without)["automountServiceAccountToken"] is False


def test_connections_become_what_airflow_reads() -> None:
    secret = one("Secret", CONNECTIONS)
    read = {key: json.loads(base64.b64decode(value)) for key, value in secret["data"].items()}
    assert read == {
        f"AIRFLOW_CONN_{key.upper()}": value for key, value in CONNECTIONS["connections"]["values"].items()
    }
    from airflow.sdk import Connection

    connection = Connection.from_json(
        base64.b64decode(secret["data"]["AIRFLOW_CONN_ARGOCD_DEFAULT"]).decode()
    )
    assert (connection.conn_type, connection.password) == ("argocd", SECRET)


def test_a_secret_is_in_secrets_only() -> None:
    encoded = base64.b64encode(SECRET.encode()).decode().rstrip("=")
    for path, content in text(EVERYTHING).items():
        if not path.endswith("templates/secret.yaml"):
            assert SECRET not in content, path
            assert encoded not in content, path


@pytest.mark.parametrize("values", [{}, *RBAC.values(), EVERYTHING])
def test_privileges_are_listed_and_never_cluster_wide(values) -> None:
    for document in render(values):
        assert document["kind"] in NAMESPACED
        assert document["metadata"]["namespace"]
        for rule in document.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not set(rule["resources"]) & {"secrets", "roles", "rolebindings", "serviceaccounts"}
            assert not set(rule["verbs"]) & {"escalate", "bind", "impersonate", "deletecollection"}


def test_argo_cd_may_only_be_read_and_only_where_it_lives() -> None:
    values = {"rbac": {"argocd": {"enabled": True, "namespace": "gitops"}}}
    role = one("Role", values)
    assert role["metadata"]["namespace"] == "gitops"
    assert role["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    ]
    binding = one("RoleBinding", values)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "pipeops", "namespace": "airflow"}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_applications_are_patched_and_flux_is_reconciled_only_where_it_is_asked_for() -> None:
    sync = one("Role", {"rbac": {"argocd": {"enabled": True, "sync": True}}})
    assert sync["rules"][0]["verbs"] == ["get", "list", "watch", "patch"]
    roles = [
        document
        for document in render({"rbac": {"flux": {"enabled": True, "namespaces": ["flux-system", "apps"]}}})
        if document["kind"] == "Role"
    ]
    assert [role["metadata"]["namespace"] for role in roles] == ["flux-system", "apps"]
    assert all("patch" in role["rules"][0]["verbs"] for role in roles)


def test_every_binding_leads_from_the_account_to_its_role() -> None:
    documents = render(EVERYTHING)
    roles = {(d["metadata"]["namespace"], d["metadata"]["name"]) for d in documents if d["kind"] == "Role"}
    bindings = [d for d in documents if d["kind"] == "RoleBinding"]
    assert {(d["metadata"]["namespace"], d["roleRef"]["name"]) for d in bindings} == roles
    accounts = [d for d in documents if d["kind"] == "ServiceAccount"]
    tokens = {d["metadata"]["name"]: d["automountServiceAccountToken"] for d in accounts}
    assert tokens == {"pipeops": True, "pipeops-workflows": False}
    named = {(s["namespace"], s["name"]) for d in bindings for s in d["subjects"]}
    assert named == {(d["metadata"]["namespace"], d["metadata"]["name"]) for d in accounts}


def test_the_application_says_what_it_applies() -> None:
    application = one("Application", APPLICATION)
    assert application["metadata"]["namespace"] == "argocd"
    assert application["spec"] == {
        "project": "default",
        "source": {"repoURL": "https://git/gitops", "path": "apps", "targetRevision": "main"},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "airflow"},
        "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
    }
    manual = {"argocd": {"application": {**APPLICATION["argocd"]["application"], "automated": False}}}
    assert "syncPolicy" not in one("Application", manual)["spec"]


def test_the_network_policy_limits_egress() -> None:
    policy = one(
        "NetworkPolicy",
        {"networkPolicy": {"enabled": True, "egressPorts": [6443], "egressCidrs": ["10.0.0.0/8"]}},
    )
    assert policy["spec"]["policyTypes"] == ["Egress"]
    chosen = {"key": "component", "operator": "In", "values": ["worker", "triggerer"]}
    assert policy["spec"]["podSelector"] == {"matchExpressions": [chosen]}
    assert policy["spec"]["egress"][-1] == {
        "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "ports": [{"port": 6443, "protocol": "TCP"}],
    }


def test_the_network_policy_sees_the_ports_behind_a_service() -> None:
    """A server in the cluster is asked on 443 and listens elsewhere; the Kubernetes API too."""
    _, _, in_cluster, elsewhere = one("NetworkPolicy", {"networkPolicy": {"enabled": True}})["spec"]["egress"]
    (namespaces,) = in_cluster["to"][0]["namespaceSelector"]["matchExpressions"]
    assert (namespaces["key"], namespaces["values"]) == ("kubernetes.io/metadata.name", ["argocd"])
    assert "ports" not in in_cluster
    assert [port["port"] for port in elsewhere["ports"]] == [443, 22, 6443]
    nobody = {"networkPolicy": {"enabled": True, "egressNamespaces": []}}
    assert len(one("NetworkPolicy", nobody)["spec"]["egress"]) == 3, (
        "an empty list would allow every namespace"
    )


def test_flux_may_be_read_as_far_as_the_code_reads_and_asked_as_far_as_it_asks() -> None:
    from airflow_pipeops.flux.hook import _READ, _WRITE
    from airflow_pipeops.flux.kinds import KINDS

    rules = one("Role", RBAC["flux"])["rules"]
    allowed = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    for kind, (group, _, plural) in KINDS.items():
        assert (group, plural, "get") in allowed, kind
    for kind in _READ:
        assert {(KINDS[kind][0], KINDS[kind][2], verb) for verb in ("get", "list", "watch")} <= allowed
    for kind in _WRITE:
        assert (KINDS[kind][0], KINDS[kind][2], "patch") in allowed


def allowed(values: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in one("Role", values)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_workflows_may_be_run_as_far_as_the_connection_s_own_test_asks() -> None:
    """What the test of a connection asks for, the flag gives; pods are deleted only where retries are wanted."""
    from airflow_pipeops.argo_workflows.clients.kubernetes import KubernetesRoute

    asked: set[tuple[str, str, str]] = set()

    class Asking:
        async def version(self) -> str:
            return "v1.30"

        async def allowed(self, verb: str, kind: Any, namespace: str, *, subresource: str = "") -> bool:
            asked.add((kind.group, kind.plural + (f"/{subresource}" if subresource else ""), verb))
            return True

    asyncio.run(KubernetesRoute(Asking()).trial("argo"))  # type: ignore[arg-type]
    assert asked
    granted = allowed(RBAC["argoWorkflows"])
    # What is of the whole cluster, the chart grants nobody.
    assert asked - granted == {("argoproj.io", "clusterworkflowtemplates", "get")}
    retrying = {"rbac": {"argoWorkflows": {"enabled": True, "retry": True}}}
    assert allowed(retrying) - granted == {("", "pods", "delete")}


def test_the_account_of_workflows_reports_and_nothing_else() -> None:
    documents = [d for d in render(WORKFLOWS) if d["metadata"]["name"].startswith("pipeops-workflows")]
    (role,) = [d for d in documents if d["kind"] == "Role"]
    assert role["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
    ]
    (secret,) = [d for d in documents if d["kind"] == "Secret"]
    assert secret["metadata"]["name"] == "pipeops-workflows.service-account-token"
    assert secret["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "pipeops-workflows"
    specs = [d["spec"] for d in render(WORKFLOWS) if d["kind"] == "WorkflowTemplate"]
    assert {spec["executor"]["serviceAccountName"] for spec in specs} == {"pipeops-workflows"}


def test_the_test_pod_runs_without_privileges_and_its_program_works(monkeypatch) -> None:
    pod = one("Pod", EVERYTHING)
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["envFrom"] == [{"secretRef": {"name": "pipeops-connections"}}]
    program = container["args"][0]
    monkeypatch.setenv("AIRFLOW_CONN_GOOD", '{"conn_type": "http"}')
    exec(compile(program, "test-pod", "exec"), {})
    monkeypatch.setenv("AIRFLOW_CONN_BAD", "token-in-a-uri")
    with pytest.raises(SystemExit, match="AIRFLOW_CONN_BAD is not a JSON connection") as caught:
        exec(compile(program, "test-pod", "exec"), {})
    assert "token" not in str(caught.value)


def test_labels_are_those_that_helm_recommends() -> None:
    for document in render(EVERYTHING):
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "pipeops"
        assert labels["app.kubernetes.io/instance"] == "pipeops"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("pipeops-")
        assert labels["team"] == "data"


def test_long_names_stay_valid() -> None:
    values = {**EVERYTHING, "fullnameOverride": "x" * 63}
    for document in render(values):
        assert len(document["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    "values",
    [
        {"unknown": 1},
        {"conections": {}},
        {"rbac": {"flux": {"enabled": "yes"}}},
        {"rbac": {"builds": {"enabled": True}}},
        {"rbac": {"argoWorkflows": {"namespaces": []}}},
        {"workflows": {"image": "x"}},
        {"workflows": {"images": {"git": "{{workflow.name}}"}}},
        {"workflows": {"keepSeconds": 0}},
        {"workflows": {"build": {"name": "Not_A_Name"}}},
        {"networkPolicy": {"components": []}},
        {"rbac": {"clusterAdmin": True}},
        {"rbac": {"deploy": {"kinds": [{"apiGroup": "*", "resources": ["deployments"]}]}}},
        {"rbac": {"deploy": {"kinds": [{"apiGroup": "apps", "resources": ["*"]}]}}},
        {"rbac": {"deploy": {"kinds": [{"apiGroup": "", "resources": ["secrets"]}]}}},
        {"rbac": {"deploy": {"kinds": [{"apiGroup": "", "resources": ["pods/exec"]}]}}},
        {"rbac": {"deploy": {"kinds": [{"apiGroup": "rbac.authorization.k8s.io", "resources": ["roles"]}]}}},
        {"serviceAccount": {"perDuty": "yes"}},
        {"connections": {"values": {"UPPER": {"conn_type": "http"}}}},
        {"connections": {"values": {"x": {"host": "no type"}}}},
        {"connections": {"values": {"x": "http://as-uri"}}},
        {"connections": {"existingSecret": "Not_A_Name"}},
        {"argocd": {"application": {"enabled": True}}},
        {"argocd": {"application": {"enabled": True, "repoURL": "https://git/x"}}},
        {"networkPolicy": {"egressPorts": [70000]}},
        {"networkPolicy": {"egressCidrs": ["everywhere"]}},
    ],
)
def test_bad_values_are_refused(values) -> None:
    with pytest.raises(helm_python.HelmError):
        text(values)


def test_a_release_of_flux_is_not_waited_for_as_one_of_argo_cd() -> None:
    values = {"image": "registry/image:1", "tests": {"release": {"enabled": True, "secret": "login"}}}
    flux = {"gitops": "flux", "repoURL": "https://git/deploy.git"}
    assert text({**values, "examples": {**flux, "gitops": "argocd"}})
    with pytest.raises(helm_python.HelmError, match="waits for Argo CD"):
        text({**values, "examples": flux})


def test_two_sources_of_connections_are_refused() -> None:
    both = {"connections": {**CONNECTIONS["connections"], "existingSecret": "mine"}}
    with pytest.raises(helm_python.HelmError, match="exclude each other"):
        text(both)
