"""The pods that are composed: known to the API in every field, and doing what they say when their scripts are run."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.build import junit
from airflow_pipeops.build.cluster import pods
from airflow_pipeops.build.cluster.jobs import act_of, job, name_of_job
from airflow_pipeops.build.cluster.pods import Settings
from airflow_pipeops.build.cluster.reports import handed_over
from airflow_pipeops.build.cluster.scripts import literal
from airflow_pipeops.build.cluster.templates import merged, template_of
from airflow_pipeops.exceptions import InvalidInput
from tests.build.cluster.running import (
    COMMIT,
    REPOSITORY,
    as_job,
    container,
    environment,
    expanded,
    request,
    run,
    test_request,
    words,
)
from tests.helm.policy import containers, unreadable

URL = "https://git.example.com/team/shop.git"
FULL = Settings(
    service_account="builder",
    resources={"limits": {"memory": "2Gi"}, "requests": {"cpu": "1"}},
    node_selector={"pool": "ci"},
    tolerations=[{"key": "ci", "operator": "Exists"}],
    git_secret="git-login",
    registry_secret="registry-login",
)


def buildkit(
    settings: Settings = FULL, *, cache: bool = True, attestations: bool = True, **more: Any
) -> dict[str, Any]:
    return pods.buildkit(
        request(**more),
        URL,
        settings,
        image="buildkit:test",
        cache=cache,
        attestations=pods.ATTESTATIONS if attestations else {},
    )


def buildah(settings: Settings = FULL, *, cache: bool = False, **more: Any) -> dict[str, Any]:
    return pods.buildah(request(**more), URL, settings, image="buildah:test", cache=cache)


def for_tests(settings: Settings = FULL, *, checkout: bool = False, **more: Any) -> dict[str, Any]:
    return pods.tests(
        test_request(**more),
        URL,
        settings,
        words=["pytest", "--junitxml", "{junit}"],
        checkout=checkout,
        helper="alpine",
    )


EVERY = [
    pytest.param(buildkit(), id="buildkit"),
    pytest.param(buildkit(Settings()), id="buildkit-plain"),
    pytest.param(buildah(platforms=("linux/amd64", "linux/arm64")), id="buildah"),
    pytest.param(for_tests(checkout=True), id="tests"),
    pytest.param(for_tests(Settings()), id="tests-plain"),
]


@pytest.mark.parametrize("pod", EVERY)
def test_every_pod_becomes_a_job_that_the_api_knows_in_every_field(pod: dict[str, Any]) -> None:
    made = as_job(pod)
    spec = made["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    # The pod's own deadline comes first: what it kills leaves a log.
    assert spec["template"]["spec"]["activeDeadlineSeconds"] < spec["activeDeadlineSeconds"]
    mounted = {mount["name"] for one in _containers(pod) for mount in one.get("volumeMounts", ())}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert [said for _, spec, one in containers(pod) for said in unreadable(spec, one)] == []


def test_what_the_cluster_s_people_say_is_in_the_pod() -> None:
    spec = buildkit()["spec"]
    assert (spec["serviceAccountName"], spec["nodeSelector"]) == ("builder", {"pool": "ci"})
    assert spec["tolerations"] == [{"key": "ci", "operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "registry-login"}]
    assert container(buildkit(), "main")["resources"] == FULL.resources
    assert spec["automountServiceAccountToken"] is False


def test_buildkit_is_told_everything_that_is_wanted() -> None:
    pod = buildkit(
        target="runtime",
        platforms=("linux/amd64", "linux/arm64"),
        arguments={"VERSION": "1.2", "EMPTY": ""},
        annotations={"org.opencontainers.image.title": 'Shop, the "first"'},
        context="services/shop",
        epoch=1700000000,
    )
    said = words(container(pod, "main"))
    assert "--opt=platform=linux/amd64,linux/arm64" in said
    assert "--opt=target=runtime" in said
    assert "--opt=build-arg:VERSION=1.2" in said
    assert "--opt=build-arg:EMPTY=" in said
    assert "--opt=build-arg:SOURCE_DATE_EPOCH=1700000000" in said
    assert f"--opt=vcs:revision={COMMIT}" in said
    assert "--opt=attest:provenance=mode=max" in said
    assert "--opt=attest:sbom=" in said
    assert "--local=context=/pipeops/work/source/services/shop" in said
    (output,) = (word for word in said if word.startswith("--output="))
    assert output.startswith(
        f"--output=type=image,name={REPOSITORY}:key-1234,push=true,oci-mediatypes=true,rewrite-timestamp="
    )
    # A value with a comma is one value.
    assert '"annotation-index.org.opencontainers.image.title=Shop, the ""first"""' in output
    (kept,) = (word for word in said if word.startswith("--export-cache="))
    assert f"ref={REPOSITORY}:buildcache" in kept


def test_an_index_is_not_annotated_where_there_is_none() -> None:
    (output,) = (
        word
        for word in words(container(buildkit(attestations=False), "main"))
        if word.startswith("--output=")
    )
    assert "annotation.org" in output
    assert "annotation-index" not in output


def test_a_build_without_a_registry_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no registry was named"):
        buildkit(repository="")


def test_a_containerfile_that_no_variable_holds_is_refused() -> None:
    with pytest.raises(InvalidInput, match="longer than 120 KiB"):
        buildkit(containerfile="# " + "x" * 130_000)


@pytest.mark.parametrize(
    "text", ["$(date)", "$$", "echo $$ $(PIPEOPS_WORK) ${HOME} $$(x) $$$", "a $ b", "price: 5$", ""]
)
def test_what_kubernetes_would_read_as_its_own_arrives_as_it_is(text: str) -> None:
    assert expanded(literal(text), {"PIPEOPS_WORK": "/elsewhere"}) == text
    assert environment(container(buildkit(containerfile=f"FROM a\nRUN {text}"), "main"))[
        "PIPEOPS_CONTAINERFILE"
    ].endswith(f"RUN {text}")


# ---- the same act has the same name --------------------------------------------------------------------------------------


def test_names_are_the_same_for_the_same_act_only() -> None:
    keys = ["dag/run/task/-1", "dag/run/task/0", "dag/run/task/-1 order 2"]
    acts = {act_of(key, what, number) for key in keys for what in ("build", "test") for number in (0, 1)}
    assert len(acts) == 12
    assert act_of(keys[0], "build") == act_of(keys[0], "build", 0)
    names = {name_of_job("build", act, turn) for act in acts for turn in (0, 1)}
    assert len(names) == 24
    assert all(len(name) <= 52 for name in names)  # the pods' names are longer, and end at 63


# ---- nothing secret is seen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", EVERY)
def test_no_secret_is_an_argument_or_a_variable(pod: dict[str, Any]) -> None:
    for one in _containers(pod):
        assert all("valueFrom" not in item for item in one.get("env", ()))
        assert "envFrom" not in one
    made = json.dumps(as_job(pod))
    assert "login" not in made.replace('"secretName": "git-login"', "").replace(
        '"secretName": "registry-login"', ""
    ).replace('"name": "registry-login"', "").replace("logins", "")
    assert all(
        volume["secret"]["defaultMode"] == 0o440 for volume in pod["spec"]["volumes"] if "secret" in volume
    )


# ---- scripts -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def fetched(url: str, commit: str, work: Path, secret: Path | None = None, **more: Any) -> Any:
    settings = Settings(git_secret="git-login" if secret else "", **more)
    pod = pods.buildkit(request(commit=commit), url, settings, image="x", cache=False, attestations={})
    folders = {"/pipeops/work": work, "/pipeops/git": secret or work / "none"}
    return run(container(pod, "source"), folders, TMPDIR=str(work.parent))


def test_one_commit_is_fetched_without_its_history(repo: Path, commit: Any, work: Path) -> None:
    first = commit({"app.py": "1\n", "run.sh": "#!/bin/sh\n"})
    (repo / "run.sh").chmod(0o755)
    second = commit({"app.py": "2\n"})
    commit({"app.py": "3\n"})
    done = fetched(repo.as_uri(), second, work)
    assert done.returncode == 0, done.stderr
    assert (work / "source" / "app.py").read_text() == "2\n"
    assert (work / "source" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert not (work / "source" / ".git").exists()
    shutil.rmtree(work / "source")
    assert fetched(repo.as_uri(), first, work).returncode == 0


def test_a_commit_that_is_not_there_is_said(repo: Path, commit: Any, work: Path) -> None:
    commit({"app.py": "1\n"})
    done = fetched(repo.as_uri(), "b" * 40, work)
    assert done.returncode != 0
    assert "b" * 40 in done.stderr


def test_a_password_opens_the_repository_and_is_seen_nowhere(
    remote: Any, http_git: Any, work: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "username").write_text("airflow")
    (secret / "password").write_text("s3cret/tok+en")
    done = fetched(http_git.url, remote.tip(), work, secret)
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert all("s3cret" not in path for path, _ in http_git.requests)
    (secret / "password").write_text("another")
    shutil.rmtree(work / "source")
    refused = fetched(http_git.url, remote.tip(), work, secret)
    assert refused.returncode != 0
    assert "Authentication failed" in refused.stderr
    assert "another" not in refused.stderr


def test_a_key_without_known_hosts_opens_nothing(work: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "ssh-privatekey").write_text("key")
    done = fetched("ssh://git@127.0.0.1:9/x.git", COMMIT, work, secret)
    assert done.returncode == 64
    assert "no known_hosts" in done.stderr


def built(pod: dict[str, Any], work: Path, tools: Path, **env: str) -> Any:
    folders = {
        "/pipeops/work": work,
        "/pipeops/logins": work / "none",
        "/dev/termination-log": work / "last-word",
    }
    return run(container(pod, "main"), folders, [tools], **env)


@pytest.fixture
def buildctl(tmp_path: Path) -> Path:
    """Stands where BuildKit would, and writes down what it is told: it needs user namespaces, which may lack here."""
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "buildctl-daemonless.sh"
    body = {
        "containerimage.config.digest": "sha256:" + "c" * 64,
        "containerimage.digest": "sha256:" + "d" * 64,
    }
    script.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > told\n[ -z "$FAILS" ] || { echo "error: no" >&2; exit 1; }\n'
        f"cat > metadata.json <<'X'\n{json.dumps(body, indent=2)}\nX\n"
    )
    script.chmod(0o755)
    return tools


def test_the_digest_is_the_last_word_of_a_build(work: Path, buildctl: Path) -> None:
    text = "FROM scratch\nRUN echo $$ '$(date)' \"x\"\n"
    (work / "source" / "shop").mkdir(parents=True)
    pod = buildkit(containerfile=text, context="shop", file="shop/Containerfile")
    done = built(pod, work, buildctl)
    assert done.returncode == 0, done.stderr
    assert json.loads((work / "last-word").read_text()) == {"digest": "sha256:" + "d" * 64}
    assert (work / "Containerfile").read_text() == text
    assert f"--local=context={work}/source/shop" in (work / "told").read_text().splitlines()


def test_a_build_that_fails_has_no_last_word_of_its_own(work: Path, buildctl: Path) -> None:
    (work / "source").mkdir()
    done = built(buildkit(), work, buildctl, FAILS="yes")
    assert done.returncode == 1
    assert not (work / "last-word").exists()


@pytest.mark.parametrize("name", ["shop/Containerfile.dockerignore", "shop/.containerignore"])
def test_an_ignore_file_that_buildkit_does_not_know_is_put_where_it_does(
    work: Path, buildctl: Path, name: str
) -> None:
    (work / "source" / "shop").mkdir(parents=True)
    (work / "source" / name).write_text("secrets\n")
    assert built(buildkit(context="shop", file="shop/Containerfile"), work, buildctl).returncode == 0
    assert (work / "Containerfile.dockerignore").read_text() == "secrets\n"


# ---- reports -------------------------------------------------------------------------------------------------------------

JUNIT = b'<testsuite tests="1"><testcase classname="t" name="a"/></testsuite>'


def reported(folder: Path) -> list[str]:
    """Run the sidecar, end it as the kubelet does, and return what it wrote."""
    sidecar = container(for_tests(), "reports")
    script = [word.replace("/pipeops/reports", str(folder)) for word in words(sidecar)]
    env = {
        name: value.replace("/pipeops/reports", str(folder)) for name, value in environment(sidecar).items()
    }
    process = subprocess.Popen(
        script, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", **env}, text=True
    )
    # It has set its trap when it sleeps.
    while not subprocess.run(
        ["pgrep", "-P", str(process.pid), "sleep"], capture_output=True, check=False
    ).stdout:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return output.splitlines()


def test_reports_come_back_through_the_sidecar_s_log(tmp_path: Path) -> None:
    large = b"<x>" + base64.b64encode(bytes(range(256)) * 4000) + b"</x>"
    (tmp_path / "junit.xml").write_bytes(JUNIT)
    (tmp_path / "coverage.xml").write_bytes(large)
    found = handed_over(["noise", *reported(tmp_path)])
    assert found.whole
    assert found.files == {"junit.xml": JUNIT, "coverage.xml": large}
    assert junit.parse(found.files["junit.xml"]).tests == 1


def test_what_is_no_file_is_not_handed_over(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").symlink_to("/etc/passwd")
    found = handed_over(reported(tmp_path))
    assert (found.whole, found.files, found.problems) == (True, {}, {})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: lines[:2],
        lambda lines: [lines[0], lines[1][:-8] + "AAAAAAAA", *lines[2:]],
        lambda lines: [lines[0].replace(f" {len(JUNIT)} ", " 7 "), *lines[1:]],
        lambda lines: [lines[0], "this is no base64!", *lines[2:]],
    ],
)
def test_a_report_that_was_cut_or_changed_is_none(tmp_path: Path, spoil: Any) -> None:
    (tmp_path / "junit.xml").write_bytes(JUNIT)
    found = handed_over(spoil(reported(tmp_path)))
    assert found.files == {}
    assert "cut or changed" in found.problems["junit.xml"]


def test_a_report_that_unpacks_to_more_than_was_said_is_none(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_bytes(b"0" * 5_000_000)
    lines = reported(tmp_path)
    lines[0] = lines[0].replace(" 5000000 ", " 10 ")
    assert "cut or changed" in handed_over(lines).problems["junit.xml"]


def test_the_tests_know_where_their_reports_go() -> None:
    main = container(for_tests(shard=2, shards=5, env={"MODE": "$(x) $$"}), "main")
    assert words(main) == ["pytest", "--junitxml", "/pipeops/reports/junit.xml"]
    assert environment(main)["MODE"] == "$(x) $$"
    assert environment(main)["PIPEOPS_COVERAGE_XML"] == "/pipeops/reports/coverage.xml"
    assert "workingDir" not in main
    assert container(for_tests(checkout=True), "main")["workingDir"] == "/pipeops/work/source"


# ---- templates -----------------------------------------------------------------------------------------------------------

TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"team": "shop"}, "annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "priorityClassName": "ci",
        "containers": [
            {
                "name": "any",
                "image": "any",
                "env": [{"name": "SSL_CERT_DIR", "value": "/ca"}],
                "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
            }
        ],
        "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    },
}


def test_a_template_lies_beneath_what_is_composed(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(json.dumps(TEMPLATE))
    pod = merged(template_of(str(file)), buildkit())
    main = container(pod, "main")
    assert main["image"] == "buildkit:test"
    assert environment(main)["SSL_CERT_DIR"] == "/ca"
    assert {"ca", "work", "storage", "logins"} == {mount["name"] for mount in main["volumeMounts"]}
    assert pod["spec"]["priorityClassName"] == "ci"
    made = as_job(pod)
    assert made["spec"]["template"]["metadata"]["labels"]["team"] == "shop"
    assert made["spec"]["template"]["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("/nowhere/pod.yaml", "cannot be read"),
        ({"kind": "Pod"}, "it has no spec"),
        ({"spec": {"contaners": [], "containers": [{"name": "a"}]}}, "no Pod has: spec.contaners"),
        ({"spec": {"containers": [{"name": "a", "imagee": "b"}]}}, "spec.containers.0.imagee"),
        ({"spec": {"containers": [{"image": "b"}]}}, "no Pod"),
        ({"spec": {"containers": "main"}}, "spec.containers|no Pod"),
    ],
)
def test_a_template_that_is_none_is_said(template: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        template_of(template)


def test_a_template_that_is_no_yaml_is_said(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("a: [")
    with pytest.raises(InvalidInput, match="no YAML"):
        template_of(str(file))


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]


def test_turns_are_told_apart() -> None:
    first, second = (job("build", "act", turn, "k", buildkit(), timeout=1, wait=1, keep=1) for turn in (0, 1))
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first["metadata"]["labels"] == second["metadata"]["labels"]
