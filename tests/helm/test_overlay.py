"""The overlays for the official Airflow chart, and the umbrella that takes it as a dependency."""

from __future__ import annotations

import base64
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from kubernetes.client import V1PersistentVolume, V1PersistentVolumeClaim, V1PodSpec

from airflow_pipeops import __version__
from airflow_pipeops.build import backends
from airflow_pipeops.build.cluster.backends import KubernetesBuild
from airflow_pipeops.demo.cluster.planting import write_desired_state
from airflow_pipeops.demo.flights import TYPES
from airflow_pipeops.demo.preflight import kubectl
from airflow_pipeops.provider.examples import example_dags
from airflow_pipeops.provider.metadata import get_provider_info
from tests.deploy.helm.running import MAJORS
from tests.helm.airflow_chart import KEYS, chart, unknown
from tests.helm.airflow_image import AIRFLOW
from tests.helm.programs import alone, leaves, objects, template
from tests.helm.test_chart import CHART, CONNECTIONS, one
from tests.openapi import problems

ROOT = CHART.parents[1]
UMBRELLA = CHART.parent / "pipeops-airflow"
OVERLAYS = ("values-airflow.yaml", "values-airflow-trial.yaml")
#: Options of files that have to outlive a pod.
STORED = ("evidence_uri", "ledger_path")
#: The unpacked official chart, where there is one, with its own dependencies left out of its Chart.yaml.
OFFICIAL = os.environ.get("PIPEOPS_AIRFLOW_CHART", "")


def overlay(name: str = OVERLAYS[0]) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CHART / name).read_text())
    return read


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_sets_keys_that_the_official_chart_has(name: str) -> None:
    """A key that a chart does not have is ignored in silence, or refused by its schema."""
    met, wrong = unknown(overlay(name))
    assert wrong == []
    assert met


def test_no_fact_of_the_official_chart_is_kept_for_nothing() -> None:
    assert set.union(*(unknown(overlay(name))[0] for name in OVERLAYS)) == set(KEYS)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"triggerer": {"serviceAccount": {"nmae": "x"}}}, "triggerer.serviceAccount.nmae: the official chart"),
        ({"dagProcessor": {"dagBundleConfigList": [{"class": "x"}]}}, "dagProcessor.dagBundleConfigList[].class: the"),
        ({"images": {"airflow": {"tag": 1}}}, "images.airflow.tag: is integer, and should be string null"),
        ({"securityContexts": {"pod": {"seccomp": {}}}}, "securityContexts.pod: .seccomp: V1PodSecurityContext has no such"),
        ({"config": {"pipeops": {"evidence_uri": ["x"]}}}, "config.pipeops.evidence_uri"),
    ],
)  # fmt: skip
def test_the_comparison_sees_what_is_wrong(values: dict[str, Any], wrong: str) -> None:
    assert any(line.startswith(wrong) for line in unknown(values)[1])


def test_the_overlay_fits_this_package_and_this_chart() -> None:
    values = overlay()
    assert (values["airflowVersion"], values["images"]["airflow"]["tag"]) == (AIRFLOW, __version__)
    own, examples = values["dagProcessor"]["dagBundleConfigList"]
    assert own["name"] == "dags-folder", "the list replaces that of the chart"
    for bundle in (own, examples):
        module, _, name = bundle["classpath"].rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name)
    (source,) = yaml.safe_load(values["extraEnvFrom"])
    assert source["secretRef"]["name"] == one("Secret", CONNECTIONS)["metadata"]["name"]
    account = {"create": False, "name": one("ServiceAccount", {})["metadata"]["name"]}
    assert set(values["workers"]) == {"celery", "kubernetes"}, "workers.serviceAccount is deprecated"
    for pods in (*values["workers"].values(), values["triggerer"], overlay(OVERLAYS[1])["scheduler"]):
        assert pods["serviceAccount"] == account
    for name in OVERLAYS:
        assert set(overlay(name)["config"]["pipeops"]) <= set(
            get_provider_info()["config"]["pipeops"]["options"]
        )


def test_airflow_itself_finds_the_example_dags_by_the_overlay(tmp_path: Path) -> None:
    program = (
        "from airflow.dag_processing.bundles.manager import DagBundlesManager as Manager\n"
        "print(Manager().get_bundle('pipeops-examples').path)"
    )
    told = json.dumps(overlay()["dagProcessor"]["dagBundleConfigList"])
    env = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": told}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(example_dags())


def test_jobs_run_where_no_helm_hook_does_and_are_no_drift() -> None:
    for job in ("createUserJob", "migrateDatabaseJob"):
        assert overlay()[job]["useHelmHooks"] is False
        assert overlay()[job]["applyCustomEnv"] is False
        assert overlay()[job]["jobAnnotations"] == {"argocd.argoproj.io/hook": "Sync"}


def test_the_image_serves_the_store_of_evidence_and_ledger() -> None:
    """The official image has what gs:// and abfs:// need, and nothing for s3://."""
    assert all(overlay()["config"]["pipeops"][option].startswith("s3://") for option in STORED)
    assert 'ARG PACKAGES="apache-airflow-providers-amazon[s3fs] ' in (CHART / "Containerfile").read_text()


def test_the_trial_keeps_evidence_and_ledger_on_the_volume_that_it_mounts() -> None:
    trial = overlay(OVERLAYS[1])
    (mount,) = trial["volumeMounts"]
    for option in STORED:
        assert trial["config"]["pipeops"][option].removeprefix("file://").startswith(f"{mount['mountPath']}/")
    assert [volume["name"] for volume in trial["volumes"]] == [mount["name"]]


def test_the_trial_builds_by_a_job_where_no_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sets is what the example reads, and the backend takes its options; the chart gives the rights there."""
    dag = example_dags() / "code_to_release.py"
    assert runpy.run_path(str(dag))["build"].backend == "local"
    for variable in overlay(OVERLAYS[1])["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    build = runpy.run_path(str(dag))["build"]
    made = backends.make(backends.BUILDS, build.backend, build.backend_options)
    assert isinstance(made, KubernetesBuild)
    assert one("Role", {"rbac": {"build": {"enabled": True}}})["metadata"]["namespace"] == made.namespace


# -- the guide


def shown(name: str) -> str:
    """Return the file of this name that the guide shows."""
    text = (ROOT / "docs" / "deploy-helm.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```yaml\n(# {re.escape(name)}(?:\n|:).*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(found)


def block(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(shown(name))
    return read


@pytest.mark.parametrize("major", MAJORS)
def test_the_values_of_the_guide_make_what_the_example_needs(major: str) -> None:
    made = objects(template(major, block("pipeops.yaml")))
    (secret,) = [d for d in made if d["kind"] == "Secret"]
    needed = runpy.run_path(str(example_dags() / "code_to_release.py"))["needed"]
    wanted = {
        f"AIRFLOW_CONN_{conn_id.upper()}"
        for conn_id in (*needed, overlay(OVERLAYS[1])["config"]["pipeops"]["registry_conn_id"])
    }
    assert wanted <= set(secret["data"])
    (build,) = [
        d for d in made if d["kind"] == "Role" and any("jobs" in rule["resources"] for rule in d["rules"])
    ]
    options = json.loads(
        next(one["value"] for one in overlay(OVERLAYS[1])["env"] if "OPTIONS" in one["name"])
    )
    assert build["metadata"]["namespace"] == options["namespace"]
    assert len([d for d in made if d["kind"] == "Application"]) == 4
    (git,) = [d["metadata"] for d in made if d["kind"] == "Service"]
    for conn_id in ("PIPEOPS_APP_REPO", "PIPEOPS_GITOPS_REPO"):
        host = json.loads(base64.b64decode(secret["data"][f"AIRFLOW_CONN_{conn_id}"]))["host"]
        assert host.startswith(f"http://{git['name']}.{git['namespace']}.svc:8080/")


def test_the_volume_of_the_guide_is_what_the_trial_mounts() -> None:
    claim = block("store.yaml")
    assert problems(claim, V1PersistentVolumeClaim) == []
    (volume,) = overlay(OVERLAYS[1])["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


#: The DAGs that the guide switches on for the model, beside that of the service.
LOOP = (
    "data_to_model",
    "drift_to_retrain",
    "batch_scores",
    "model_guard",
    "release_guard",
    "desired_state_drift",
)


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Merge values as Helm does: maps key by key, all else whole."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def test_the_guide_gives_each_dag_of_the_loop_what_it_asks_for() -> None:
    values = merged(block("pipeops.yaml"), block("model-connections.yaml"))
    (secret,) = [d for d in objects(template(MAJORS[-1], values)) if d["kind"] == "Secret"]
    told = {
        key.removeprefix("AIRFLOW_CONN_").lower(): json.loads(base64.b64decode(value))["conn_type"]
        for key, value in secret["data"].items()
    }
    text = (ROOT / "docs" / "deploy-helm.md").read_text(encoding="utf-8")
    assert f"for dag in {' '.join(LOOP)}; do" in text
    for dag in LOOP:
        needed = runpy.run_path(str(example_dags() / f"{dag}.py"))["needed"]
        # A cluster itself may be asked for Applications, too.
        assert {**needed, "argocd_default": "kubernetes"}.items() <= told.items(), dag


def test_the_guide_leaves_nothing_of_the_trial_out_where_it_replaces_a_list() -> None:
    trial, model = overlay(OVERLAYS[1]), block("model-airflow.yaml")
    for part in ("volumes", "volumeMounts", "env"):
        assert [one for one in trial[part] if one not in model[part]] == [], part
    mounted = {one["name"]: one["mountPath"] for one in model["volumeMounts"]}
    stored = block("model-connections.yaml")["connections"]["values"].values()
    hosts = [one["host"] for one in stored if one["conn_type"] != "http"]
    assert all(re.fullmatch(rf"(file|sqlite)://+{mounted['models'][1:]}/.+", host) for host in hosts), hosts


def test_the_guide_mounts_the_models_where_they_are_written_and_where_they_are_served(tmp_path: Path) -> None:
    for namespace in ("airflow", "flight-delay-staging", "flight-delay-production"):
        volume, claim = yaml.safe_load_all(shown("models.yaml").replace("NAMESPACE", namespace))
        assert problems(volume, V1PersistentVolume) == problems(claim, V1PersistentVolumeClaim) == []
        assert volume["spec"]["claimRef"] == {key: claim["metadata"][key] for key in ("namespace", "name")}
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    write_desired_state(tmp_path, "registry.example.com/team", "registry.example.com/airflow-pipeops:1")
    (before,) = rendered(tmp_path)
    for name in ("models.yaml", "kustomization.yaml"):
        (tmp_path / "apps/flight-delay/base" / name).write_text(shown(f"apps/flight-delay/base/{name}"))
    (after,) = rendered(tmp_path)
    pod = after["spec"]["template"]["spec"]
    (mount,), (volumes,) = pod["containers"][0].pop("volumeMounts"), pod.pop("volumes")
    assert after == before, "nothing else changes"
    airflow = block("model-airflow.yaml")
    assert {key: mount[key] for key in ("name", "mountPath")} in airflow["volumeMounts"]
    assert volumes in airflow["volumes"]


def rendered(folder: Path) -> list[dict[str, Any]]:
    """Return the Deployments of the model's staging."""
    overlay = folder / "apps/flight-delay/overlays/staging"
    done = subprocess.run([kubectl(), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "Deployment"]


def test_the_guide_writes_a_batch_that_the_dags_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "deploy-helm.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"python -c '\n(.*?)' /opt", text, re.DOTALL)
    command = [sys.executable, "-c", script, str(tmp_path), "01", "02"]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    frame = pandas.read_parquet(tmp_path / "flights-2013-01-02.parquet")
    assert len(frame) == 2 * 9000
    assert list(frame.columns) == list(TYPES)


def test_the_image_can_serve_the_example_that_the_chart_deploys() -> None:
    recipe = (CHART / "Containerfile").read_text()
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', recipe, re.MULTILINE)
    assert extras.split() == ["--extra", "serving"], "the server of models needs all of it"


# -- the umbrella


def test_the_umbrella_has_the_values_of_the_overlay() -> None:
    values = yaml.safe_load((UMBRELLA / "values.yaml").read_text())
    assert values["airflow"] == {"enabled": True, **overlay()}


def test_the_umbrella_is_of_the_same_release() -> None:
    umbrella, own = (yaml.safe_load((folder / "Chart.yaml").read_text()) for folder in (UMBRELLA, CHART))
    assert (
        {umbrella[key] for key in ("version", "appVersion")}
        == {own[key] for key in ("version", "appVersion")}
        == {__version__}
    )
    assert umbrella["kubeVersion"] == own["kubeVersion"]
    airflow, pipeops = umbrella["dependencies"]
    assert (airflow["repository"], airflow["condition"]) == ("https://airflow.apache.org", "airflow.enabled")
    assert (pipeops["repository"], pipeops["version"]) == ("file://../pipeops", own["version"])


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The umbrella beside the pipeops chart, with the stand-in as the official one."""
    folder = tmp_path_factory.mktemp("charts")
    for source in (CHART, UMBRELLA):
        shutil.copytree(source, folder / source.name)
    chart(folder / "airflow")
    file = folder / UMBRELLA.name / "Chart.yaml"
    file.write_text(file.read_text().replace("https://airflow.apache.org", "file://../airflow"))
    return folder / UMBRELLA.name


@pytest.mark.parametrize("major", MAJORS)
def test_the_umbrella_installs_both_and_either(major: str, umbrella: Path, tmp_path: Path) -> None:
    alone(major, tmp_path, "dependency", "build", umbrella)
    assert not re.search("WARNING|ERROR", alone(major, tmp_path, "lint", umbrella).stdout)
    both = list(
        yaml.safe_load_all(alone(major, tmp_path, "template", "any", umbrella, "-n", "airflow").stdout)
    )
    reached = next(d for d in both if d["metadata"]["name"] == "any-values")
    values = json.loads(reached["data"]["values"])
    assert {path: leaves(values)[path] for path in leaves(overlay())} == leaves(overlay())
    (account,) = [d["metadata"]["name"] for d in both if d["kind"] == "ServiceAccount"]
    assert account == values["triggerer"]["serviceAccount"]["name"], "whatever the release is called"
    either = alone(major, tmp_path, "template", "any", umbrella, "--set", "airflow.enabled=false").stdout
    assert [d["kind"] for d in yaml.safe_load_all(either) if d] == ["ServiceAccount"]


# -- with the official chart, where there is one


@pytest.fixture(scope="module", params=["CeleryExecutor", "KubernetesExecutor", "LocalExecutor", "trial"])
def official(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What the official chart makes of the overlay, the same from both majors and each time."""
    if not OFFICIAL:
        pytest.skip("PIPEOPS_AIRFLOW_CHART names no official chart")
    home = tmp_path_factory.mktemp("home")
    image = home / "image.yaml"
    image.write_text(yaml.safe_dump({"images": {"airflow": {"tag": f"{__version__}@sha256:{'0' * 64}"}}}))
    given: list[str | Path] = [
        "-f",
        CHART / OVERLAYS[0],
        "-f",
        image,
        "--set",
        "postgresql.enabled=false,data.metadataSecretName=db",
    ]
    given += (
        ["-f", CHART / OVERLAYS[1]] if request.param == "trial" else ["--set", f"executor={request.param}"]
    )
    texts = [
        alone(major, home, "template", "airflow", OFFICIAL, "-n", "airflow", *given).stdout
        for major in (*MAJORS, *MAJORS)
    ]
    found = [[d for d in yaml.safe_load_all(text) if d] for text in texts]
    assert all(one == found[0] for one in found), (
        "what is new at each rendering restarts everything at each sync"
    )
    return found[0]


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the specs of all pods: name of what makes them -> spec."""
    found = {
        f"{d['kind']}/{d['metadata']['name']}": d["spec"]["template"]["spec"]
        for d in documents
        if d["kind"] in ("Deployment", "StatefulSet", "Job")
    }
    for d in documents:
        if template := (d.get("data") or {}).get("pod_template_file.yaml"):
            spec = yaml.safe_load(template)["spec"]
            found["pod-template"] = {key: value for key, value in spec.items() if value is not None}
    return found


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *(spec.get("initContainers") or [])]


def test_every_pod_of_airflow_runs_the_pinned_image(official: list[dict[str, Any]]) -> None:
    pinned = f"registry.example.com/airflow-pipeops:{__version__}@sha256:{'0' * 64}"
    for name, spec in pods(official).items():
        if name != "pod-template" and not re.search("redis|statsd", name):
            assert {container["image"] for container in containers(spec)} == {pinned}, name
    (config,) = [d["data"]["airflow.cfg"] for d in official if "airflow.cfg" in (d.get("data") or {})]
    read = dict(re.findall(r"^(worker_container_\w+) = (.*)$", config, re.MULTILINE))
    assert f"{read['worker_container_repository']}:{read['worker_container_tag']}" == pinned, (
        "of the KubernetesExecutor"
    )


def test_every_pod_is_restricted(official: list[dict[str, Any]]) -> None:
    for name, spec in pods(official).items():
        security = spec["securityContext"]
        assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"}), (
            name
        )
        assert security["runAsUser"] != 0
        for container in containers(spec):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, (
                name,
                container["name"],
            )
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"], (name, container["name"])
        assert problems(spec, V1PodSpec) == [], name


def test_tasks_and_waits_run_as_the_account_of_the_pipeops_chart(
    official: list[dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    ours = {name for name, spec in pods(official).items() if spec.get("serviceAccountName") == "pipeops"}
    tasks = {
        "CeleryExecutor": {"StatefulSet/airflow-worker"},
        "KubernetesExecutor": {"pod-template"},
        "LocalExecutor": set(),  # they run in the scheduler, with its own account
        "trial": {"StatefulSet/airflow-scheduler"},
    }
    assert ours == {"StatefulSet/airflow-triggerer", *tasks[request.node.callspec.params["official"]]}
    assert "pipeops" not in {d["metadata"]["name"] for d in official if d["kind"] == "ServiceAccount"}


def test_the_bundle_and_the_store_reach_airflow(official: list[dict[str, Any]]) -> None:
    (config,) = [d["data"]["airflow.cfg"] for d in official if "airflow.cfg" in (d.get("data") or {})]
    assert "airflow_pipeops.provider.examples.ExampleDagsBundle" in config
    mounted = {
        mount["mountPath"]
        for spec in pods(official).values()
        for container in containers(spec)
        for mount in container.get("volumeMounts", [])
    }
    for option in STORED:
        (where,) = re.findall(rf"^{option} = (.*)$", config, re.MULTILINE)
        assert where.startswith("s3://") or str(Path(where.removeprefix("file://")).parent) in mounted
