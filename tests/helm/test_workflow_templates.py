"""The WorkflowTemplates of the chart, filled in as Argo Workflows does it: they run what is composed for a cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from argo_workflows.model.io_argoproj_workflow_v1alpha1_workflow_template import (
    IoArgoprojWorkflowV1alpha1WorkflowTemplate,
)

from airflow_pipeops.build import junit
from airflow_pipeops.build.cluster import pods, scripts
from airflow_pipeops.build.cluster.pods import Settings
from airflow_pipeops.build.cluster.reports import handed_over
from airflow_pipeops.build.workflows.parameters import (
    ANSWER,
    BUILD_ANSWER,
    BUILD_TEMPLATE,
    ROOM,
    TEST_ANSWER,
    TEST_TEMPLATE,
    WITH_SOURCE,
    for_build,
    for_tests,
)
from airflow_pipeops.exceptions import InvalidInput
from tests.build.cluster.running import COMMIT, container, environment, expanded, request, run, test_request
from tests.helm.test_chart import CHART, render
from tests.openapi import problems

URL = "https://git.example.com/team/shop.git"
SETTINGS = Settings(
    resources={"limits": {"memory": "2Gi"}, "requests": {"cpu": "1"}},
    node_selector={"pool": "ci"},
    tolerations=[{"key": "ci", "operator": "Exists"}],
    git_secret="git-login",
    registry_secret="registry-login",
)
FULL: dict[str, Any] = {
    "gitSecret": "git-login",
    "registrySecret": "registry-login",
    "nodeSelector": {"pool": "ci"},
    "tolerations": [{"key": "ci", "operator": "Exists"}],
    "build": {"resources": SETTINGS.resources},
    "test": {"resources": SETTINGS.resources},
}
#: What somebody could write into a build argument, a path or a command, and every tool on the way might take for its own.
HOSTILE = (
    "",
    "-",
    " a  b ",
    "line\nbreak\n",
    "tab\tand\rreturn",
    "$(touch /tmp/hacked)",
    "`touch /tmp/hacked`",
    "$HOME ${HOME} $$ $(PIPEOPS_WORK)",
    "{{workflow.name}} {{=sprig.env('HOME')}} {{ '{{' }}",
    "'; touch /tmp/hacked; '",
    '"; exit 0; "',
    "END",
    "\\n \\c \\0173 \\\\",
    "%s %n %b",
    "ä€😀\x7f\x01",
)
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def templates(values: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    found = render({"workflows": {"enabled": True, **(values or {})}})
    return {one["metadata"]["name"]: one for one in found if one["kind"] == "WorkflowTemplate"}


def filled(template: Mapping[str, Any], given: Mapping[str, str], entrypoint: str = "") -> dict[str, Any]:
    """Fill in parameters as the workflow controller does: in the text of the template, for all that are declared."""
    declared = template["spec"]["arguments"]["parameters"]
    assert {one["name"] for one in declared} >= set(given)
    values = {one["name"]: given.get(one["name"], one.get("value")) for one in declared}

    def one(match: re.Match[str]) -> str:
        value = values[match[1]]
        assert value is not None, f"{match[1]} has no value"
        return json.dumps(value)[1:-1]

    text = json.dumps(template["spec"])
    spec: dict[str, Any] = json.loads(re.sub(r"{{workflow\.parameters\.([a-z]+)}}", one, text))
    assert "{{" not in json.dumps(spec)
    wanted = entrypoint or spec["entrypoint"]
    return {
        **spec,
        "template": next(one for one in spec["templates"] if one["name"] == wanted),
    }


def told(of: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return what the script of a container is told, by the shell that it runs in."""
    script = scripts.GIVEN + 'env -0; printf "\\0"; for one in "$@"; do printf "%s\\0" "$one"; done'
    ran = subprocess.run(
        ["sh", "-c", script], env=environment(of), capture_output=True, timeout=60, check=True
    )
    variables, _, words = ran.stdout.decode("utf-8", "surrogateescape").partition("\0\0")
    pairs = [one.partition("=") for one in variables.split("\0") if one]
    own = ("PWD", "OLDPWD", "SHLVL", "_")
    return {name: value for name, _, value in pairs if name not in own}, words.split("\0")[:-1]


def build(**more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    pod = pods.buildkit(
        request(**more), URL, SETTINGS, image=pods.BUILDKIT_IMAGE, cache=True, attestations=pods.ATTESTATIONS
    )
    return pod, for_build(pod, 1800.0)


def a_run(*, checkout: bool, words: tuple[str, ...] = ("pytest", "{junit}"), **more: Any) -> Any:
    pod = pods.tests(test_request(**more), URL, SETTINGS, words=words, checkout=checkout, helper="")
    return pod, for_tests(pod, 900.0)


def without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in names}


# ---- one truth -----------------------------------------------------------------------------------------------------------


def test_the_scripts_of_the_chart_are_those_of_the_package() -> None:
    """The chart is no part of the package. After a change there, write each text of it into its file here."""
    wanted = {
        "given.sh": scripts.GIVEN,
        "source.sh": scripts.FETCH,
        "build.sh": scripts.BUILDKIT,
        "test.sh": scripts.TESTS,
    }
    found = {path.name: path.read_text(encoding="utf-8") for path in (CHART / "scripts").iterdir()}
    assert found == wanted


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_they_have_the_form_that_the_published_description_gives(values: dict[str, Any]) -> None:
    found = templates(values)
    assert set(found) == {BUILD_TEMPLATE, TEST_TEMPLATE}
    for one in found.values():
        assert problems(one, IoArgoprojWorkflowV1alpha1WorkflowTemplate) == []


def test_the_images_are_those_of_the_jobs() -> None:
    (template,) = templates()[BUILD_TEMPLATE]["spec"]["templates"]
    assert template["container"]["image"] == pods.BUILDKIT_IMAGE
    assert template["initContainers"][0]["image"] == pods.GIT_IMAGE


def same_source(template: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    (source,) = template["initContainers"]
    composed = container(pod, "source")
    assert told(source) == (environment(composed), [])
    assert expanded(source["command"][2], {}) == scripts.GIVEN + expanded(composed["command"][2], {})
    assert without(source, "env", "command") == without(composed, "env", "command")


def test_a_build_runs_what_is_composed_for_a_cluster() -> None:
    pod, given = build(
        arguments={f"A{number}": text for number, text in enumerate(HOSTILE)},
        containerfile="FROM scratch\nRUN echo '{{ x }}' $(date) \\\n  && true\n",
        context="a folder/{{x}}",
        platforms=("linux/amd64", "linux/arm64"),
        target="last",
    )
    spec = filled(templates(FULL)[BUILD_TEMPLATE], given)
    template, main = spec["template"], container(pod, "main")
    ours = template["container"]
    same_source(template, pod)
    variables, words = told(ours)
    assert variables == {**environment(main), "PIPEOPS_LAST_WORD": BUILD_ANSWER}
    assert words == [expanded(word, {}) for word in main["command"][4:]]
    assert expanded(ours["command"][2], {}) == scripts.GIVEN + expanded(main["command"][2], {})
    # The last word is an output parameter here, and the message of an end there.
    own = ("name", "env", "command", "terminationMessagePath", "terminationMessagePolicy")
    assert without(ours, *own) == without(main, *own)
    assert template["volumes"] == pod["spec"]["volumes"]
    assert (spec["securityContext"], template["activeDeadlineSeconds"]) == (
        pod["spec"]["securityContext"],
        "1800",
    )
    for name in ("nodeSelector", "tolerations", "imagePullSecrets", "automountServiceAccountToken"):
        assert spec[name] == pod["spec"][name], name
    (answer,) = template["outputs"]["parameters"]
    assert (answer["name"], answer["valueFrom"]["path"]) == (ANSWER, BUILD_ANSWER)


@pytest.mark.parametrize("checkout", [False, True])
def test_tests_run_what_is_composed_for_a_cluster(checkout: bool) -> None:
    pod, given = a_run(checkout=checkout, words=("run", "{junit}", *HOSTILE), env={"A": HOSTILE[8]})
    entrypoint = WITH_SOURCE if checkout else ""
    spec = filled(templates(FULL)[TEST_TEMPLATE], given, entrypoint)
    template, main = spec["template"], container(pod, "main")
    ours = template["container"]
    if checkout:
        same_source(template, pod)
    else:
        assert "initContainers" not in template
    variables, words = told(ours)
    kept = {name: value for name, value in variables.items() if name in environment(main)}
    assert kept == environment(main)
    assert variables.get("PIPEOPS_FOLDER", "") == main.get("workingDir", "")
    assert words == [expanded(word, {}) for word in main["command"]]
    assert expanded(ours["command"][2], {}) == scripts.GIVEN + scripts.TESTS
    own = ("name", "env", "command", "workingDir", "terminationMessagePath", "terminationMessagePolicy")
    assert without(ours, *own) == without(main, *own)
    assert template["volumes"] == pod["spec"]["volumes"]
    for name in ("nodeSelector", "tolerations", "imagePullSecrets", "automountServiceAccountToken"):
        assert spec[name] == pod["spec"][name], name
    (answer,) = template["outputs"]["parameters"]
    assert (answer["name"], answer["valueFrom"]["path"]) == (ANSWER, TEST_ANSWER)


# ---- what parameters say is never a command ------------------------------------------------------------------------------


def test_parameters_are_put_into_variables_and_images_only() -> None:
    """A parameter within the text of a script would be read by the shell."""
    met = set()

    def look(value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                look(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                look(inner, path)
        elif isinstance(value, str) and "{{" in value:
            assert re.fullmatch(r"{{workflow\.parameters\.[a-z]+}}", value), path
            met.add(path)

    for one in templates(FULL).values():
        look(one["spec"], "")
    assert met == {
        ".templates.activeDeadlineSeconds",
        ".templates.container.env.value",
        ".templates.container.image",
        ".templates.initContainers.env.value",
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_reads_the_same(shell: str) -> None:
    env = {
        "PIPEOPS_ENVIRONMENT": "\n".join(scripts.line(f"V{at}={text}") for at, text in enumerate(HOSTILE)),
        "PIPEOPS_ARGUMENTS": "\n".join(map(scripts.line, HOSTILE)),
        "PATH": "/usr/bin:/bin",
    }
    assert all(" " <= one <= "~" or one == "\n" for text in env.values() for one in text)
    assert not any(mark in text for text in env.values() for mark in ("{{", "$"))
    script = scripts.GIVEN + 'for one in "$@"; do printf "%s\\0" "$one"; done\n'
    script += "".join(f'printf "%s\\0" "$V{at}"\n' for at in range(len(HOSTILE)))
    command = [shell, "sh"] if shell == "busybox" else [shell]
    ran = subprocess.run([*command, "-c", script], env=env, capture_output=True, timeout=60, check=True)
    assert ran.stdout.decode().split("\0")[:-1] == [*HOSTILE, *HOSTILE]
    assert not Path("/tmp/hacked").exists()


def test_a_variable_that_no_shell_knows_and_what_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no name of a variable") as caught:
        a_run(checkout=False, env={"a.b": "1"})
    assert (caught.value.field, caught.value.value) == ("env", "a.b")
    with pytest.raises(InvalidInput, match="can be told"):
        a_run(checkout=False, words=("x" * 130_000,))
    with pytest.raises(InvalidInput, match="not a valid name"):
        a_run(checkout=False, image="{{workflow.name}}")


# ---- run -----------------------------------------------------------------------------------------------------------------


def test_a_filled_in_build_leaves_the_digest(tmp_path: Path) -> None:
    """BuildKit itself is a stand-in that leaves what it leaves; the scripts are run as they are."""
    binaries, work = tmp_path / "bin", tmp_path / "work"
    (work / "source").mkdir(parents=True)
    binaries.mkdir()
    digest = "sha256:" + "5" * 64
    kit = binaries / "buildctl-daemonless.sh"
    kit.write_text(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > words\ncat Containerfile > built\n"
        f'echo \'{{"containerimage.digest": "{digest}"}}\' > metadata.json\n'
    )
    kit.chmod(0o755)
    text = "FROM scratch\nRUN echo '{{ x }}' $(date)\n"
    _, given = build(containerfile=text, arguments={"VERSION": "$(id)"})
    spec = filled(templates(FULL)[BUILD_TEMPLATE], given)
    ran = run(spec["template"]["container"], {pods.WORK: work}, [binaries])
    assert ran.returncode == 0, ran.stderr
    assert json.loads((work / "answer").read_text()) == {"digest": digest}
    assert (work / "built").read_text() == text
    assert "--opt=build-arg:VERSION=$(id)" in (work / "words").read_text().splitlines()


def ran_tests(tmp_path: Path, program: str, room: int = ROOM) -> tuple[int, Any]:
    reports = tmp_path / "reports"
    reports.mkdir()
    _, given = a_run(checkout=False, words=("sh", "-c", program, "sh", "{junit}", "{coverage}"))
    given["environment"] = given["environment"].replace(f"PIPEOPS_ROOM={ROOM}", f"PIPEOPS_ROOM={room}")
    spec = filled(templates()[TEST_TEMPLATE], given)
    ran = run(spec["template"]["container"], {pods.REPORTS_FOLDER: reports})
    return ran.returncode, handed_over((reports / "answer").read_text().splitlines())


def test_filled_in_tests_leave_their_reports_and_their_status(tmp_path: Path) -> None:
    status, found = ran_tests(
        tmp_path, """printf '<testsuite tests="1"><testcase name="a"/></testsuite>' > "$1"; exit 3"""
    )
    assert status == 3
    assert found.whole
    assert junit.parse(found.files["junit.xml"]).tests == 1
    assert "coverage.xml" not in found.files


def test_a_report_without_room_is_named_and_the_other_comes(tmp_path: Path) -> None:
    program = 'head -c 9000 /dev/urandom > "$1"; echo "<coverage/>" > "$2"'
    status, found = ran_tests(tmp_path, program, room=1000)
    assert (status, found.whole) == (0, True)
    assert list(found.files) == ["coverage.xml"]
    assert "packed, and there is room for 1,000" in found.problems["junit.xml"]


def test_tests_do_not_see_what_is_meant_for_the_script(tmp_path: Path) -> None:
    status, found = ran_tests(tmp_path, 'env | sort > "$1"')
    names = {row.partition("=")[0] for row in found.files["junit.xml"].decode().splitlines()}
    own = {name for name in names if name.startswith("PIPEOPS_")}
    assert status == 0
    assert own == {"PIPEOPS_JUNIT_XML", "PIPEOPS_COVERAGE_XML", "PIPEOPS_SHARD", "PIPEOPS_SHARDS"}


def test_a_command_that_is_not_there_is_an_end_of_its_own(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    _, given = a_run(checkout=False, words=("/no/such/program",))
    spec = filled(templates()[TEST_TEMPLATE], given)
    ran = run(spec["template"]["container"], {pods.REPORTS_FOLDER: reports})
    assert ran.returncode == 127
    assert handed_over((reports / "answer").read_text().splitlines()).whole


def test_the_commit_is_a_variable_too() -> None:
    _, given = build()
    assert f"PIPEOPS_COMMIT={COMMIT}" in given["source"]
