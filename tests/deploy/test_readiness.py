"""Each kind, and each way of looking ready without being it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.deploy.readiness import Applied, Readiness, judge
from airflow_pipeops.deploy.rules import RULES
from airflow_pipeops.deploy.seen import marks
from airflow_pipeops.redaction import cleaned
from tests.deploy.objects import (
    NEW,
    OLD,
    Object,
    application,
    conditions,
    controller,
    custom,
    daemon_set,
    deployment,
    inference,
    job,
    pod,
    policy,
    replica_set,
    rollout,
    route,
    signing_request,
    stateful_set,
    thing,
)

SERVICE = {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}
GATEWAY = "gateway.networking.k8s.io/v1"
UPDATING = {"updatedReplicas": 1, "updateRevision": "web-3"}

#: What is looked at -> state and rule.
TABLE: list[tuple[Object, str, str]] = [
    (deployment(), "ready", "rolled_out"),
    (deployment(said=[]), "ready", "rolled_out"),
    (deployment(replicas=0), "unknown", "zero_replicas"),
    (deployment(spec={"paused": True}), "waiting", "paused"),
    (deployment(observedGeneration=1), "waiting", "not_observed"),
    (deployment(observedGeneration="1"), "waiting", "not_observed"),
    (deployment(observedGeneration="two"), "unknown", "observed_generation"),
    (deployment(observedGeneration=[2]), "unknown", "observed_generation"),
    (deployment(observedGeneration=None), "waiting", "not_observed"),
    (deployment(updatedReplicas=1), "waiting", "rolling_out"),
    (deployment(availableReplicas=1), "waiting", "rolling_out"),
    (deployment(readyReplicas=1), "waiting", "rolling_out"),
    (deployment(replicas=2, spec={"replicas": 3}), "waiting", "rolling_out"),
    (
        thing("apps/v1", "Deployment", spec={"replicas": 1}, status={**deployment()["status"]}),
        "waiting",
        "old_pods",
    ),
    (
        deployment(said=conditions("Progressing=False:ProgressDeadlineExceeded")),
        "failed",
        "progress_deadline",
    ),
    (deployment(said=conditions("ReplicaFailure=True:Quota")), "waiting", "replica_failure"),
    (deployment(said=conditions("Progressing=True:ReplicaSetUpdated")), "waiting", "progressing"),
    (deployment(said=conditions("Available=False")), "waiting", "not_available"),
    (thing("apps/v1", "Deployment"), "waiting", "not_observed"),
    (stateful_set(), "ready", "rolled_out"),
    (stateful_set(replicas=0), "unknown", "zero_replicas"),
    (stateful_set(**UPDATING), "waiting", "rolling_out"),
    (stateful_set(updateRevision="web-3"), "waiting", "rolling_out"),
    (stateful_set(availableReplicas=2), "waiting", "rolling_out"),
    (stateful_set(spec={"updateStrategy": {"type": "OnDelete"}}, **UPDATING), "waiting", "rolling_out"),
    (
        stateful_set(spec={"updateStrategy": {"rollingUpdate": {"partition": 2}}}, **UPDATING),
        "ready",
        "partition",
    ),
    (
        stateful_set(spec={"updateStrategy": {"rollingUpdate": {"partition": 1}}}, **UPDATING),
        "waiting",
        "rolling_out",
    ),
    (
        stateful_set(spec={"updateStrategy": {"rollingUpdate": {"partition": 3}}}, **UPDATING),
        "unknown",
        "held_back",
    ),
    (daemon_set(), "ready", "rolled_out"),
    (daemon_set(0), "unknown", "zero_replicas"),
    (daemon_set(updatedNumberScheduled=2), "waiting", "rolling_out"),
    (daemon_set(numberAvailable=2), "waiting", "rolling_out"),
    (
        daemon_set(spec={"updateStrategy": {"type": "OnDelete"}}, updatedNumberScheduled=0),
        "waiting",
        "rolling_out",
    ),
    (thing("apps/v1", "DaemonSet", status={"observedGeneration": 2}), "waiting", "not_observed"),
    (replica_set(), "ready", "rolled_out"),
    (replica_set(fullyLabeledReplicas=1), "waiting", "rolling_out"),
    (replica_set(conditions=conditions("ReplicaFailure=True")), "waiting", "replica_failure"),
    (replica_set(replicas=0), "unknown", "zero_replicas"),
    (controller(), "ready", "rolled_out"),
    (controller(readyReplicas=1), "waiting", "rolling_out"),
    (thing("v1", "ReplicationController"), "waiting", "not_observed"),
    (pod("Running", "Ready=True"), "ready", "pod_ready"),
    (pod("Running", "Ready=False"), "waiting", "pod_not_ready"),
    (pod("Running", "Ready=False", waiting="CrashLoopBackOff"), "failed", "crash_loop"),
    (pod("Pending", waiting="InvalidImageName"), "failed", "bad_image"),
    (pod("Pending", waiting="ImagePullBackOff"), "waiting", "pod_not_ready"),
    (pod("Pending", "PodScheduled=False:Unschedulable"), "waiting", "unschedulable"),
    (pod("Succeeded"), "ready", "succeeded"),
    (pod("Failed"), "failed", "pod_failed"),
    (pod("Failed", "Ready=True"), "failed", "pod_failed"),
    (job(), "waiting", "not_started"),
    (job(startTime="2026-01-01T00:00:00Z", active=1), "waiting", "running"),
    (job("Complete=True", startTime="2026-01-01T00:00:00Z"), "ready", "completed"),
    (job("SuccessCriteriaMet=True", startTime="2026-01-01T00:00:00Z"), "waiting", "running"),
    (job("Failed=True:BackoffLimitExceeded"), "failed", "job_failed"),
    (job("Suspended=True", spec={"suspend": True}), "waiting", "suspended"),
    (thing("batch/v1", "CronJob"), "ready", "planned"),
    (thing("batch/v1", "CronJob", spec={"suspend": True}), "ready", "suspended_plan"),
    (thing("v1", "PersistentVolumeClaim", status={"phase": "Pending"}), "waiting", "not_bound"),
    (thing("v1", "PersistentVolumeClaim", status={"phase": "Bound"}), "ready", "bound"),
    (thing("v1", "PersistentVolumeClaim", status={"phase": "Lost"}), "failed", "volume_lost"),
    (thing("v1", "Service", spec={"clusterIP": "None"}), "ready", "addressed"),
    (thing("v1", "Service"), "waiting", "no_cluster_ip"),
    (thing("v1", "Service", spec={"type": "ExternalName"}), "ready", "exists"),
    (thing("v1", "Service", spec=SERVICE), "waiting", "no_address"),
    (
        thing("v1", "Service", spec=SERVICE, status={"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
        "ready",
        "addressed",
    ),
    (thing("networking.k8s.io/v1", "Ingress"), "waiting", "no_address"),
    (
        thing("networking.k8s.io/v1", "Ingress", status={"loadBalancer": {"ingress": [{"hostname": "lb"}]}}),
        "ready",
        "addressed",
    ),
    (thing("autoscaling/v2", "HorizontalPodAutoscaler"), "waiting", "not_observed"),
    (
        thing(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            status={"conditions": conditions("AbleToScale=True", "ScalingActive=True")},
        ),
        "ready",
        "scaling",
    ),
    (
        thing(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            status={"conditions": conditions("AbleToScale=True", "ScalingActive=False:FailedGetMetric")},
        ),
        "waiting",
        "scaling_inactive",
    ),
    (
        thing(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            status={"conditions": conditions("AbleToScale=True", "ScalingActive=False:ScalingDisabled")},
        ),
        "ready",
        "scaling_disabled",
    ),
    (
        thing(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            status={"conditions": conditions("AbleToScale=False:FailedGetScale")},
        ),
        "waiting",
        "unable_to_scale",
    ),
    (thing("policy/v1", "PodDisruptionBudget"), "waiting", "not_observed"),
    (thing("policy/v1", "PodDisruptionBudget", status={"observedGeneration": 2}), "ready", "observed"),
    (
        thing(
            "policy/v1",
            "PodDisruptionBudget",
            status={
                "observedGeneration": 2,
                "conditions": conditions("DisruptionAllowed=False:SyncFailed"),
            },
        ),
        "failed",
        "sync_failed",
    ),
    (thing("apiextensions.k8s.io/v1", "CustomResourceDefinition"), "waiting", "not_established"),
    (
        thing(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            status={"conditions": conditions("NamesAccepted=True", "Established=True")},
        ),
        "ready",
        "established",
    ),
    (
        thing(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            status={"conditions": conditions("NamesAccepted=False:ListKindConflict")},
        ),
        "failed",
        "names_refused",
    ),
    (
        thing(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            status={"conditions": conditions("Established=False:NotAccepted")},
        ),
        "waiting",
        "not_established",
    ),
    (thing("apiregistration.k8s.io/v1", "APIService"), "waiting", "api_unavailable"),
    (
        thing("apiregistration.k8s.io/v1", "APIService", status={"conditions": conditions("Available=True")}),
        "ready",
        "available",
    ),
    (signing_request(), "waiting", "not_approved"),
    (signing_request("Approved=True"), "waiting", "not_signed"),
    (signing_request("Approved=True", certificate="cGVt"), "ready", "signed"),
    (signing_request("Denied=True"), "failed", "not_signed"),
    (signing_request("Approved=True", "Failed=True:SignerValidationFailure"), "failed", "not_signed"),
    (thing("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"), "ready", "exists"),
    (thing("resource.k8s.io/v1", "DeviceClass"), "ready", "exists"),
    (thing("v1", "Namespace", status={"phase": "Active"}), "ready", "exists"),
    (thing("v1", "Namespace", status={"phase": "Terminating"}), "failed", "deleting"),
    (thing("v1", "ConfigMap"), "ready", "exists"),
    (thing("rbac.authorization.k8s.io/v1", "Role"), "ready", "exists"),
    (
        thing(GATEWAY, "Gateway", status={"conditions": conditions("Accepted=True@2", "Programmed=True@2")}),
        "ready",
        "programmed",
    ),
    (
        thing(GATEWAY, "Gateway", status={"conditions": conditions("Accepted=True@2", "Programmed=True@1")}),
        "waiting",
        "not_observed",
    ),
    (
        thing(GATEWAY, "Gateway", status={"conditions": conditions("Accepted=False:Invalid@2")}),
        "waiting",
        "not_accepted",
    ),
    (
        thing(GATEWAY, "GatewayClass", status={"conditions": conditions("Accepted=True@2")}),
        "ready",
        "accepted",
    ),
    (
        thing(
            GATEWAY, "ListenerSet", status={"conditions": conditions("Accepted=True@2", "Programmed=True@2")}
        ),
        "ready",
        "programmed",
    ),
    (thing(GATEWAY, "ListenerSet"), "waiting", "not_observed"),
    (policy(["Accepted=True@2", "ResolvedRefs=True@2"]), "ready", "accepted"),
    (policy(["Accepted=True@2"]), "ready", "accepted"),
    (policy(["Accepted=True@2"], ["Accepted=False:Conflicted@2"]), "waiting", "not_accepted"),
    (policy(["Accepted=True@2", "ResolvedRefs=False@2"]), "waiting", "not_accepted"),
    (policy(["Accepted=True@1"]), "waiting", "not_observed"),
    (policy(), "waiting", "not_accepted"),
    (thing("serving.kserve.io/v1alpha1", "ServingRuntime"), "ready", "exists"),
    (thing("serving.kserve.io/v1alpha1", "ClusterServingRuntime"), "ready", "exists"),
    (route(["Accepted=True@2", "ResolvedRefs=True@2"]), "ready", "accepted"),
    (
        route(["Accepted=True@2", "ResolvedRefs=True@2"], ["Accepted=False@2", "ResolvedRefs=True@2"]),
        "waiting",
        "not_accepted",
    ),
    (route(["Accepted=True@2", "ResolvedRefs=True@2"], []), "waiting", "not_accepted"),
    (route(["Accepted=True@1", "ResolvedRefs=True@1"]), "waiting", "not_observed"),
    (route(["Accepted=True@2", "ResolvedRefs=False@2"]), "waiting", "not_accepted"),
    (route(), "unknown", "no_parent"),
    (rollout(), "ready", "rolled_out"),
    (rollout(observedGeneration="1"), "waiting", "not_observed"),
    (rollout(observedGeneration="abc"), "unknown", "observed_generation"),
    (rollout("Degraded", abort=True, stableRS="old"), "failed", "aborted"),
    (rollout(abort=True, abortedAt="2026-01-01T00:00:00Z"), "failed", "aborted"),
    (rollout(stableRS="old"), "waiting", "not_stable"),
    (rollout(stableRS="", currentPodHash=""), "waiting", "not_stable"),
    (rollout("Paused"), "waiting", "paused"),
    (rollout(spec={"paused": True}), "waiting", "paused"),
    (rollout(pauseConditions=[{"reason": "CanaryPauseStep"}]), "waiting", "paused"),
    (rollout("Progressing"), "waiting", "progressing"),
    (rollout("Degraded", message="InvalidSpec"), "failed", "degraded"),
    (rollout(spec={"restartAt": "2026-01-02T00:00:00Z"}), "waiting", "restarting"),
    (rollout(availableReplicas=1), "waiting", "rolling_out"),
    (rollout(spec={"replicas": 0}), "unknown", "zero_replicas"),
    (inference("Ready=True"), "ready", "serving"),
    (inference("Ready=False"), "waiting", "not_ready"),
    (
        inference("Ready=True", observedGeneration=3),
        "ready",
        "serving",
    ),  # an autoscaler changed its Deployment
    (
        inference("Ready=True", generation=2, observedGeneration=2),
        "waiting",
        "settling",
    ),  # may be of the spec before
    (
        inference(
            "Ready=True",
            components={"predictor": {"latestCreatedRevision": "p-2", "latestReadyRevision": "p-1"}},
        ),
        "waiting",
        "old_revision",
    ),
    (
        inference("Ready=True", modelStatus={"transitionStatus": "BlockedByFailedLoad"}),
        "failed",
        "model_failed",
    ),
    (inference("Ready=True", modelStatus={"transitionStatus": "InProgress"}), "waiting", "model_loading"),
    (
        thing(
            "serving.knative.dev/v1",
            "Service",
            status={
                "observedGeneration": 2,
                "conditions": conditions("Ready=True"),
                "latestCreatedRevisionName": "b",
                "latestReadyRevisionName": "a",
            },
        ),
        "waiting",
        "old_revision",
    ),
    (custom(), "waiting", "not_observed"),
    (thing("acme.example/v1", "Widget"), "waiting", "not_observed"),
    (custom("Ready=True", observedGeneration=2), "ready", "condition"),
    (custom("Ready=True@2"), "ready", "condition"),
    (custom("Ready=True@1"), "waiting", "not_observed"),
    (custom("Ready=True", observedGeneration=1), "waiting", "not_observed"),
    (custom("Ready=True"), "waiting", "settling"),
    (custom("Ready=True", generation=1), "ready", "condition"),
    (custom("Ready=False", observedGeneration=2), "waiting", "not_ready"),
    (custom("Stalled=True", observedGeneration=2), "failed", "stalled"),
    (custom("Stalled=True@1", "Ready=True@2"), "ready", "condition"),
    (custom("Reconciling=True", observedGeneration=2), "waiting", "reconciling"),
    (custom(observedGeneration=2), "ready", "observed"),
    # As the operator of Prometheus says it, and others without Ready.
    (custom("Available=True@2", "Reconciled=True@2"), "ready", "condition"),
    (custom("Available=True@1", "Reconciled=True@2"), "waiting", "not_observed"),
    (custom("Available=True@2", "Reconciled=False@2"), "waiting", "not_ready"),
    (custom("Available=Degraded@2", "Reconciled=True@2"), "waiting", "not_ready"),
    (custom("Available=False", observedGeneration=2), "waiting", "not_ready"),
    (custom("Available=True", generation=1), "ready", "condition"),
    (custom("Available=True"), "waiting", "settling"),
    # The version before is available, too, while the next one comes.
    (custom("Available=True@2", "Progressing=True@2"), "waiting", "progressing"),
    (custom("Progressing=True:NewReplicaSetAvailable", "Available=True@2"), "ready", "condition"),
    (custom("Progressing=True", generation=1), "waiting", "progressing"),
    (custom("Progressing=Unknown", observedGeneration=2), "waiting", "progressing"),
    (custom("RollingOut=True", "Available=True", observedGeneration=2), "waiting", "progressing"),
    (custom("Reconciling=True", generation=1), "waiting", "reconciling"),
    (custom("Stalled=False", "Reconciling=False", generation=1), "waiting", "settling"),
    (custom("Created=True", generation=1), "waiting", "settling"),
    (custom("Provisioned=False", "Created=True", generation=1), "waiting", "not_ready"),
    (custom("Created=True@1"), "waiting", "not_observed"),
    (custom("Failed=True"), "failed", "condition_failed"),
    (custom("Failed=True", observedGeneration=2), "failed", "condition_failed"),
    (custom("Failed=True@1", observedGeneration=2), "ready", "observed"),
    (custom("Failed=False", observedGeneration=2), "ready", "observed"),
    (custom("Succeeded=False"), "failed", "condition_failed"),
    (custom("Degraded=True", "Available=True@2"), "failed", "degraded"),
    (application(), "ready", "healthy"),
    (application(revision="v2"), "waiting", "not_observed"),
    (application(place="other"), "waiting", "not_observed"),
    (application(place=""), "waiting", "not_observed"),
    (application(sync="OutOfSync"), "waiting", "not_synced"),
    (application(operationState={"phase": "Running"}), "waiting", "not_synced"),
    (application("Degraded"), "failed", "degraded"),
    (application("Suspended"), "waiting", "paused"),
    (application("Missing"), "waiting", "progressing"),
    (thing("argoproj.io/v1alpha1", "Application"), "waiting", "not_synced"),
    (thing("argoproj.io/v1alpha1", "Workflow", status={"phase": "Succeeded"}), "ready", "complete"),
    (thing("argoproj.io/v1alpha1", "Workflow", status={"phase": "Running"}), "waiting", "running"),
    (thing("argoproj.io/v1alpha1", "Workflow", status={"phase": "Error"}), "failed", "condition_failed"),
    (thing("argoproj.io/v1alpha1", "Workflow"), "waiting", "running"),
]


def applied(item: Object, **more: Any) -> Applied:
    """Return that the object was applied as it is."""
    return Applied(item["metadata"]["uid"], item["metadata"]["generation"], **more)


@pytest.mark.parametrize(
    ("item", "state", "rule"),
    TABLE,
    ids=[f"{number}-{item['kind']}-{state}-{rule}" for number, (item, state, rule) in enumerate(TABLE)],
)
def test_each_kind(item: Object, state: str, rule: str) -> None:
    found = judge(item, applied(item))
    assert (found.state, found.rule) == (state, rule), found.reason
    assert found.reason


def test_each_rule_of_a_kind_is_in_the_table() -> None:
    seen = {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item, _, _ in TABLE}
    same = {("gateway.networking.k8s.io", kind) for kind in ("GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")}
    assert set(RULES) - same - {("gateway.networking.k8s.io", "ReferenceGrant")} <= seen


@pytest.mark.parametrize(
    ("metadata", "given", "state", "rule"),
    [
        ({}, Applied("u2", 2), "failed", "recreated"),
        ({}, Applied("", 2), "unknown", "not_applied"),
        ({}, Applied("u1", 3), "waiting", "old_answer"),
        ({}, Applied("u1", 1), "unknown", "changed_since"),
        ({}, Applied("u1", 1, spec=marks("u1", {"replicas": 3})), "failed", "overwritten"),
        ({}, Applied("u1", 1, spec=marks("u1", {"replicas": 2})), "ready", "rolled_out"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, Applied("u1", 2), "failed", "deleting"),
        ({"uid": ""}, Applied("u1", 2), "unknown", "no_object"),
    ],
)
def test_only_what_was_applied(metadata: Object, given: Applied, state: str, rule: str) -> None:
    item = deployment()
    item["metadata"].update(metadata)
    found = judge(item, given)
    assert (found.state, found.rule) == (state, rule), found.reason


def test_a_secret_counts_no_generation_and_it_tells_who_holds_its_fields_since_when() -> None:
    def secret(time: str = "1", key: str = "f:key", more: tuple[Object, ...] = ()) -> Object:
        fields = {"f:data": {key: {}}}
        mine = {"manager": "us", "operation": "Apply", "time": time, "fieldsV1": fields}
        return {**thing("v1", "Secret", generation=0, managedFields=[mine, *more]), "data": {"key": "b25l"}}

    applied = Applied.of(secret(), manager="us")
    assert applied.held
    assert "b25l" not in json.dumps(applied.to_json())
    assert judge(secret(), applied).state == "ready"
    others = ({"manager": "them", "operation": "Update", "fieldsV1": {"f:metadata": {}}},)
    assert judge(secret(more=others), applied).state == "ready"
    for changed in (secret(time="2"), secret(key="f:other"), thing("v1", "Secret", generation=0)):
        assert judge(changed, applied).rule == "overwritten"
    assert judge(secret(time="2"), Applied.of(secret())).state == "ready", "nobody can tell"
    role = {**secret(), "kind": "ClusterRole"}
    assert Applied.of(role, manager="us").held == "", "its controller may write what was applied"


def test_an_aborted_rollout_that_somebody_put_back_is_not_the_one_that_was_applied() -> None:
    template = {"spec": {"containers": [{"name": "web", "image": "shop/web:2"}]}}
    manifest = thing("argoproj.io/v1alpha1", "Rollout", spec={"template": template})
    answer = rollout(spec={"template": template})
    old = {"spec": {"containers": [{"name": "web", "image": "shop/web:1"}]}}
    put_back = rollout(spec={"template": old}, observedGeneration="3")
    put_back["metadata"]["generation"] = 3
    found = judge(put_back, Applied.of(answer, manifest))
    assert (found.state, found.rule) == ("failed", "overwritten")


def test_an_autoscaler_that_changes_what_nobody_applied_is_no_harm() -> None:
    manifest = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": f"shop/web@{NEW}"}]}}}}
    answer = deployment(spec=manifest["spec"])
    bound = Applied.of(answer, manifest)
    assert bound.images == (f"shop/web@{NEW}",)
    scaled = deployment(replicas=5, spec=manifest["spec"], observedGeneration=3)
    scaled["metadata"]["generation"] = 3
    # Something that others put in front of it, a sidecar for example, is not what was applied.
    scaled["spec"] = {
        **scaled["spec"],
        "template": {
            "spec": {
                "containers": [{"name": "side"}, {"name": "web", "image": f"shop/web@{NEW}", "tty": True}]
            }
        },
    }
    assert judge(scaled, bound).state == "ready"


def test_what_was_applied_crosses_a_deferral() -> None:
    bound = Applied("u1", 2, ("a@sha256:1",), marks("u1", {"replicas": 2}))
    assert Applied.from_json(bound.to_json()) == bound


def test_what_was_applied_carries_no_value_that_may_be_a_secret() -> None:
    env = [{"name": "PASSWORD", "value": "hunter2"}, {"name": "TOKEN", "value": "s3cr3t-of-some-length"}]
    spec = {"template": {"spec": {"containers": [{"name": "web", "image": "shop/web:1", "env": env}]}}}
    answer = deployment(spec=spec)
    bound = Applied.of(answer, {"spec": spec})
    told = json.dumps(bound.to_json())
    assert "hunter2" not in told
    assert "s3cr3t" not in told
    # What redaction may do to it on its way through an XCom does not make it another one.
    assert Applied.from_json(cleaned(bound.to_json())) == bound
    later = copy.deepcopy(answer)
    later["metadata"]["generation"], later["status"]["observedGeneration"] = 3, 3
    assert judge(later, bound).state == "ready"
    later["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "hunter3"
    assert judge(later, bound).rule == "overwritten"


@pytest.mark.parametrize("observed", [1, 2, 7])
def test_a_changed_inference_service_counts_once_nothing_moves(observed: int) -> None:
    """Its observed generation is that of its Deployment: neither equal nor another says anything."""
    item = inference("Ready=True", generation=2, observedGeneration=observed)
    assert judge(item, applied(item)).state == "waiting"
    assert judge(item, applied(item), settled=True).state == "ready"
    graph = {**item, "kind": "InferenceGraph"}
    assert judge(graph, applied(graph)).rule == "settling"
    assert judge(graph, applied(graph), settled=True).state == "ready"


@pytest.mark.parametrize(
    ("declares", "state"), [(None, "unknown"), (True, "waiting"), (False, "ready")], ids=str
)
def test_a_custom_resource_that_nobody_speaks_of(declares: bool | None, state: str) -> None:
    item = custom()
    assert judge(item, applied(item), declares=declares).state == "waiting"
    assert judge(item, applied(item), declares=declares, settled=True).state == state


def test_ready_without_a_generation_is_believed_once_it_lasts() -> None:
    item = custom("Ready=True")
    assert judge(item, applied(item), settled=True).state == "ready"


@pytest.mark.parametrize(
    ("said", "state", "rule"),
    [
        (["Available=True"], "ready", "condition"),
        (["Created=True"], "ready", "condition"),
        (["Stalled=False", "Reconciling=False"], "ready", "condition"),
        (["Progressing=False", "Degraded=False"], "ready", "condition"),
        (["Provisioned=False", "Created=True"], "unknown", "condition_unclear"),
        (["Provisioned=Unknown"], "unknown", "condition_unclear"),
        (["Available=True", "LowConfidence=False"], "ready", "condition"),
        (["Available=False"], "waiting", "not_ready"),
        (["Progressing=True"], "waiting", "progressing"),
        (["Created=True@1"], "waiting", "not_observed"),
    ],
)
def test_conditions_without_a_generation_count_once_they_last(said: list[str], state: str, rule: str) -> None:
    item = custom(*said)
    assert judge(item, applied(item), declares=True).state == "waiting"
    found = judge(item, applied(item), declares=True, settled=True)
    assert (found.state, found.rule) == (state, rule), found.reason


def test_an_ingress_whose_controller_tells_no_address_is_not_known() -> None:
    item = thing("networking.k8s.io/v1", "Ingress")
    assert judge(item, applied(item), settled=True).state == "unknown"


@pytest.mark.parametrize("item", [deployment(replicas=0), stateful_set(replicas=0), daemon_set(0)])
def test_no_pod_may_be_what_is_wanted(item: Object) -> None:
    assert judge(item, applied(item), empty_ok=True).state == "ready"


@pytest.mark.parametrize(
    ("images", "state", "rule"),
    [
        ([f"docker.io/shop/web@{NEW}"], "ready", "rolled_out"),
        ([f"docker-pullable://shop/web@{NEW}"], "ready", "rolled_out"),
        ([f"docker.io/shop/web@{OLD}"], "failed", "other_image"),
        ([f"docker.io/shop/web@{NEW}", f"docker.io/shop/web@{OLD}"], "failed", "other_image"),
        ([f"docker.io/other/web@{NEW}"], "failed", "image_missing"),
        ([""], "waiting", "image_not_told"),
        ([NEW], "unknown", "image_hidden"),
        ([], "waiting", "no_pod"),
    ],
)
def test_the_images_that_run_are_those_that_were_applied(images: list[str], state: str, rule: str) -> None:
    item = deployment()
    pods = [pod("Running", "Ready=True", image=image) for image in images]
    found = judge(item, applied(item, images=(f"shop/web@{NEW}",)), pods=pods)
    assert (found.state, found.rule) == (state, rule), found.reason


def test_a_pod_that_goes_runs_nothing_any_more() -> None:
    item, old = deployment(), pod("Running", image=f"docker.io/shop/web@{OLD}")
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pods = [old, pod("Running", image=f"docker.io/shop/web@{NEW}")]
    assert judge(item, applied(item, images=(f"shop/web@{NEW}",)), pods=pods).state == "ready"


# ---- whatever a cluster says --------------------------------------------------------------------------------------------

_KINDS = [
    *((f"{group}/v1" if group else "v1", kind) for group, kind in RULES),
    ("v1", "Secret"),
    ("acme.example/v1", "Widget"),
]
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5) | st.sampled_from(["", "True", "Healthy", "2", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "type"]), inner),
    max_leaves=5,
)
_fields = st.sampled_from(
    sorted({key for item, _, _ in TABLE for key in (*item.get("status", {}), *item["spec"])})
)
_oddly = st.dictionaries(_fields, _json, max_size=4)
_ready = [item for item, state, _ in TABLE if state == "ready"]
#: Of an InferenceService, the observed generation is that of another object.
_own = [item for item in _ready if item["kind"] != "InferenceService"]


@given(st.sampled_from(_KINDS), _json | _oddly, _json | _oddly, st.booleans())
def test_whatever_a_cluster_says_is_judged(
    kind: tuple[str, str], spec: Any, status: Any, settled: bool
) -> None:
    item = {**thing(*kind), "spec": spec, "status": status}
    found = judge(item, Applied("u1", 2), settled=settled, pods=[item])
    assert found.state in ("ready", "waiting", "failed", "unknown")
    assert found.reason
    assert judge(item, Applied("u1", 2), settled=settled, pods=[item]) == found


@given(st.sampled_from(_own), _oddly, st.integers(1, 5), st.booleans(), st.booleans())
def test_never_ready_with_a_generation_behind(
    item: Object, odd: Object, behind: int, settled: bool, as_text: bool
) -> None:
    observed = max(0, item["metadata"]["generation"] - behind)
    status = {**item.get("status", {}), **odd, "observedGeneration": str(observed) if as_text else observed}
    changed = {**item, "status": status}
    found = judge(changed, applied(item), settled=settled, empty_ok=True)
    # Kinds without generations have none that could be behind.
    assert found.state != "ready" or item["metadata"]["generation"] == observed
    later = Applied("u1", item["metadata"]["generation"] + behind)
    assert judge(item, later, settled=settled).state != "ready"


@given(st.sampled_from(_ready), st.text(max_size=3), _oddly, st.booleans())
def test_never_ready_as_another_object(item: Object, uid: str, odd: Object, settled: bool) -> None:
    changed = {**item, "status": {**item.get("status", {}), **odd}}
    found: Readiness = judge(changed, Applied(uid, item["metadata"]["generation"]), settled=settled)
    assert found.state != "ready" or uid == item["metadata"]["uid"]
