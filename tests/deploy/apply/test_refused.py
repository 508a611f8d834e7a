"""What a cluster refuses: one clear error each, and nothing applied, pruned or deleted before all could be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.exceptions import PipeOpsError
from tests.deploy.apply.cluster import KINDS, configmap, members
from tests.deploy.apply.test_operators import as_run, task
from tests.deploy.conftest import Cluster
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.objects import Refused

Object = dict[str, Any]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS, ("apps", "v1", "statefulsets", True)) as server:
        yield server


def deployment(image: str = "shop/web:1", app: str = "web", name: str = "web") -> Object:
    labels = {"app": app}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


def statefulset(service: str = "db", app: str = "db") -> Object:
    found = {**deployment(app=app, name="db"), "kind": "StatefulSet"}
    return {**found, "spec": {**found["spec"], "serviceName": service}}


def job(image: str) -> Object:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "load"},
        "spec": {"template": template},
    }


def claim(mode: str) -> Object:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}


def state(api: ApiServer) -> dict[str, Any]:
    """Return all that is there but the parent, which says who holds the set."""
    return {
        f"{kind.plural}/{name}": copy.deepcopy(item)
        for kind in api.kinds.values()
        for (_, name), item in kind.objects.items()
        if (kind.plural, name) != ("configmaps", "web")
    }


# ---- fields that cannot be changed ---------------------------------------------------------------------------------------

FIXED: dict[str, tuple[Object, Object, str, str]] = {
    "selector": (deployment(), deployment(app="shop"), r"Deployment shop/web: spec\.selector \(", "Foreground"),
    "template of a Job": (job("a:1"), job("a:2"), r"Job shop/load: spec\.template \(", "Foreground"),
    "StatefulSet, its pods stay": (
        statefulset(), statefulset("other"), r"StatefulSet shop/db: spec \(Forbidden: updates to statefulset", "Orphan",
    ),
    "StatefulSet, other pods": (statefulset(), statefulset(app="other"), "StatefulSet shop/db: spec", "Foreground"),
    "immutable ConfigMap": (
        {**configmap("fixed"), "immutable": True}, {**configmap("fixed", "2"), "immutable": True},
        r"ConfigMap shop/fixed: data \(", "Foreground",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "told", "propagation"), FIXED.values(), ids=FIXED)
def test_fields_that_cannot_be_changed_are_named_or_the_object_is_made_anew(
    cluster: Cluster, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    before: Object, after: Object, told: str, propagation: str,
) -> None:  # fmt: skip
    api, seen = cluster.api, []
    delete = api._delete

    def watched(kind: Any, found: Object, options: Object) -> Object:
        seen.append((found["metadata"]["name"], options.get("propagationPolicy")))
        return delete(kind, found, options)

    monkeypatch.setattr(api, "_delete", watched)
    task(manifests=[before, configmap("old")], wait=False).execute(context)
    there = state(api)
    with pytest.raises(AirflowFailException, match=told):
        task(manifests=[configmap("new"), after], wait=False).execute(as_run(context, "second"))
    assert state(api) == there
    result = task(manifests=[after], wait=False, on_immutable="replace").execute(as_run(context, "third"))
    (replaced,) = result["replaced"]
    name = after["metadata"]["name"]
    was, now = (
        next(item for key, item in found.items() if key.endswith(f"/{name}")) for found in (there, state(api))
    )
    assert (replaced["before"], replaced["now"]) == (was["metadata"]["uid"], now["metadata"]["uid"])
    assert was["metadata"]["uid"] != now["metadata"]["uid"]
    assert seen == [(name, propagation), ("old", "Background")], "and pruned afterwards"


def test_a_claim_is_made_anew_only_where_it_is_named(cluster: Cluster, context: dict[str, Any]) -> None:
    task(manifests=[claim("ReadWriteOnce")], wait=False).execute(context)
    there = state(cluster.api)
    again: dict[str, Any] = {"manifests": [claim("ReadWriteMany")], "wait": False, "on_immutable": "replace"}
    with pytest.raises(
        AirflowFailException, match=r"PersistentVolumeClaim shop/data: .*where prune_named names it"
    ):
        task(**again).execute(as_run(context, "second"))
    assert state(cluster.api) == there
    result = task(**again, prune_named=["PersistentVolumeClaim shop/data"]).execute(as_run(context, "third"))
    assert [one["object"] for one in result["replaced"]] == ["PersistentVolumeClaim shop/data"]


def test_what_is_no_member_is_not_made_anew(cluster: Cluster, context: dict[str, Any]) -> None:
    task(manifests=[deployment()], wait=False).execute(context)
    cluster.api.change("deployments", "shop", "web", lambda item: item["metadata"].pop("labels"))
    there = state(cluster.api)
    with pytest.raises(AirflowFailException, match=r"Deployment shop/web is there, .*no member of the set"):
        task(manifests=[deployment(app="shop")], wait=False, on_immutable="replace").execute(
            as_run(context, "second")
        )
    assert state(cluster.api) == there


def test_what_could_not_be_made_anew_is_not_deleted(cluster: Cluster, context: dict[str, Any]) -> None:
    """The rule of admission would refuse the new one: that is found out before the old one goes."""
    task(manifests=[deployment()], wait=False).execute(context)
    there = state(cluster.api)
    cluster.api.admission.append(denied_by("policy.example.com", "shop"))
    with pytest.raises(AirflowFailException, match="refuses deployments"):
        task(manifests=[deployment(app="shop")], wait=False, on_immutable="replace").execute(
            as_run(context, "second")
        )
    assert state(cluster.api) == there


def denied_by(webhook: str, app: str, code: int = 400) -> Callable[[str, Object], None]:
    def ask(plural: str, item: Object) -> None:
        labels = ((item.get("spec") or {}).get("template") or {}).get("metadata", {}).get("labels") or {}
        if plural == "deployments" and labels.get("app") == app:
            said = f'admission webhook "{webhook}" denied the request: no owner'
            raise Refused(code, "Forbidden" if code == 403 else "BadRequest", said)

    return ask


# ---- what else is refused ------------------------------------------------------------------------------------------------


def refuse(code: int, reason: str, said: str) -> Callable[[ApiServer], None]:
    def arrange(api: ApiServer) -> None:
        def ask(plural: str, item: Object) -> None:
            if plural == "deployments":
                raise Refused(code, reason, said)

        api.admission.append(ask)

    return arrange


def may_not(*verbs: str) -> Callable[[ApiServer], None]:
    def arrange(api: ApiServer) -> None:
        api.tokens["token"] = lambda verb, target, _: not (target == "deployments.apps" and verb in verbs)

    return arrange


def no_member(api: ApiServer) -> None:
    """Members are read by lists; what is none is asked for by its name."""
    api.change("deployments", "shop", "web", lambda item: item["metadata"].pop("labels"))
    may_not("get")(api)


def end_namespace(api: ApiServer) -> None:
    api.ending_namespaces.add("shop")
    kind = api._by_plural("deployments")
    kind.objects.clear()  # it is created, which is what such a namespace refuses


def hold(api: ApiServer) -> None:
    def change(item: Object) -> None:
        item["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["example.com/audit"])

    api.change("deployments", "shop", "web", change)


CALLING = 'Internal error occurred: failed calling webhook "policy.example.com": failed to call webhook: '
CALLING += 'Post "https://policy.shop.svc:443/?timeout=10s": context deadline exceeded'
POLICY = "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no owner"
QUOTA = (
    'deployments.apps "web" is forbidden: exceeded quota: small, requested: count/deployments.apps=1, used: 5'
)
REFUSED: dict[str, tuple[Callable[[ApiServer], Any], str]] = {
    "a webhook": (
        refuse(400, "BadRequest", 'admission webhook "policy.example.com" denied the request: no owner'),
        r"admission rule of the cluster refuses deployments.*policy\.example\.com.*no owner",
    ),
    "a webhook, as forbidden": (
        refuse(403, "Forbidden", 'admission webhook "policy.example.com" denied the request: no owner'),
        r"admission rule .*policy\.example\.com",
    ),
    "a policy": (
        refuse(422, "Invalid", POLICY),
        "admission rule .*denied request: no owner",
    ),
    "pod security": (
        refuse(403, "Forbidden", 'pods "web" is forbidden: violates PodSecurity "restricted:latest": privileged'),
        "admission rule .*violates PodSecurity",
    ),
    "a webhook that does not answer": (
        refuse(500, "InternalError", CALLING), r'webhook "policy\.example\.com" did not answer .*deadline exceeded',
    ),
    "a quota": (refuse(403, "Forbidden", QUOTA), "no room for deployments.*exceeded quota: small"),
    "a namespace that goes": (end_namespace, "namespace of .* is being deleted"),
    "a finalizer that hangs": (hold, r"Deployment shop/web is being deleted: finalizers hold it: example\.com/audit"),
    "no right to look": (no_member, "lacks a permission on deployments.apps shop/web .*cannot get"),
    "no right to apply": (may_not("patch"), "lacks a permission on deployments.apps shop/web .*cannot patch"),
    "no right to list": (may_not("list"), "lacks a permission on .*deployments.*cannot list"),
}  # fmt: skip


@pytest.mark.parametrize(("arrange", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_told_and_nothing_is_touched(
    cluster: Cluster, context: dict[str, Any], arrange: Callable[[ApiServer], Any], told: str
) -> None:
    api = cluster.api
    task(manifests=[configmap("settings"), configmap("old"), deployment()], wait=False).execute(context)
    arrange(api)
    there = state(api)
    wanted = [configmap("settings", "2"), configmap("new"), deployment("shop/web:2")]
    with pytest.raises((AirflowFailException, PipeOpsError), match=told):
        task(manifests=wanted, wait=False).execute(as_run(context, "second"))
    assert state(api) == there
    parent = api.read("configmaps", "shop", "web")
    assert parent is not None
    assert "pipeops/holder" not in parent["metadata"]["annotations"]


def test_what_is_refused_in_the_midst_holds_nobody_up_and_prunes_nothing(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    """The trial went well, and the rule came after it."""
    api, asked = cluster.api, []
    task(manifests=[configmap("settings"), configmap("old"), deployment()], wait=False).execute(context)

    def ask(plural: str, item: Object) -> None:
        asked.append(plural)
        if asked.count("deployments") > 1:
            raise Refused(400, "BadRequest", 'admission webhook "late.example.com" denied the request: no')

    api.admission.append(ask)
    wanted = [configmap("settings", "2"), deployment("shop/web:2")]
    with pytest.raises(AirflowFailException, match=r"late\.example\.com"):
        task(manifests=wanted, wait=False).execute(as_run(context, "second"))
    assert "configmaps/old" in members(api), "nothing is pruned before all was applied"
    api.admission.clear()
    result = task(manifests=wanted, wait=False).execute(as_run(context, "another"))
    assert result["deleted"] == ["ConfigMap shop/old"], "the set was free for another task at once"


def test_what_does_not_go_when_it_is_pruned_holds_nobody_up(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    task(manifests=[configmap("settings"), configmap("old")], wait=False).execute(context)
    held = {"finalizers": ["example.com/audit"]}
    cluster.api.change("configmaps", "shop", "old", lambda item: item["metadata"].update(held))
    for run in ("second", "third"):
        task(manifests=[configmap("settings")], wait=False).execute(as_run(context, run))
    left = cluster.api.read("configmaps", "shop", "old")
    assert left is not None
    assert left["metadata"]["deletionTimestamp"]
    assert "configmaps/old" in members(cluster.api), "it stays a member, in sight"
