"""The gate on an image: its digest always, and a signature by a real cosign where one is here.

cosign is in no Debian release; ``PIPEOPS_TEST_COSIGN`` names the program, or it is found on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.http import tls_context
from airflow_pipeops.build import logins, oci, signatures
from airflow_pipeops.build.operators import SignImageOperator, VerifyImageOperator
from airflow_pipeops.build.process import Finished
from airflow_pipeops.build.registry import Credential, Registry
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.demo import packager
from airflow_pipeops.exceptions import AccessDenied, GateFailed, SystemFailure, Unreachable
from tests.registry import LOGIN, PASSWORD, ContainerRegistry, Fault, proxy, registry

pytestmark = pytest.mark.timeout(240)
COSIGN = os.environ.get("PIPEOPS_TEST_COSIGN") or shutil.which("cosign") or ""
needs_cosign = pytest.mark.skipif(not COSIGN, reason="cosign is not here; PIPEOPS_TEST_COSIGN may name it")
service = Deliverable("svc")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def connect(monkeypatch: pytest.MonkeyPatch, real: ContainerRegistry, host: str = "") -> None:
    value = {
        "conn_type": "container_registry", "host": host or real.host, "login": LOGIN, "password": PASSWORD,
        "extra": {"ca_file": str(real.ca_file)},
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_REG", json.dumps(value))


@pytest.fixture
def image(real: ContainerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image in the registry, under the tag ``v1``."""
    connect(monkeypatch, real)
    return f"{real.host}/team/app@{push(real, tmp_path, 'v1')}"


def verify(context: Any, image: str, **kwargs: Any) -> dict[str, Any]:
    kwargs = {"registry_conn_id": "reg", "transparency_log": False, "cosign": COSIGN or "cosign", **kwargs}
    return VerifyImageOperator(task_id="verify", image=image, **kwargs).execute(context)


def sign(context: Any, image: str) -> dict[str, Any]:
    return SignImageOperator(
        task_id="sign", image=image, registry_conn_id="reg", signing_conn_id="signer", cosign=COSIGN, transparency_log=False
    ).execute(context)  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key pair, whose private key and password are in connection ``signer``."""
    folder = tmp_path / "keys"
    folder.mkdir()
    around = {**os.environ, "COSIGN_PASSWORD": "pa55-of-the-key"}
    subprocess.run([COSIGN, "generate-key-pair"], cwd=folder, env=around, check=True, capture_output=True)
    extra = {"private_key": (folder / "cosign.key").read_text()}
    value = {"conn_type": "generic", "password": "pa55-of-the-key", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SIGNER", json.dumps(value))
    return folder / "cosign.pub"


def test_the_digest_and_the_tag_are_compared_without_cosign(context, image) -> None:
    result = verify(context, image, tag="v1", deliverable=service, cosign="no-such-program")
    assert (result["verified"], result["by"]) == (["digest", "tag"], "")
    record = Record.from_extra(context["outlet_events"][service.asset("validation")].extra)
    assert record.body["digest"] == result["digest"]
    other = image[:-4] + "0000"
    with pytest.raises(AirflowFailException, match="NotFound"):
        verify(context, other)


@pytest.mark.parametrize("field", ["tag", "key", "certificate_identity", "certificate_issuer"])
@pytest.mark.parametrize("value", ["", None])
def test_an_identity_whose_template_finds_no_value_opens_no_gate(context, image, field, value) -> None:
    """What is left of it, the digest alone, is less than was demanded."""
    demanded = {field: "{{ var.value.signer }}"}
    made = VerifyImageOperator(task_id="verify", image=image, registry_conn_id="reg", **demanded)
    setattr(made, field, value)  # as Airflow renders it
    with pytest.raises(AirflowFailException, match=f"{field} was given, and is empty"):
        made.execute(context)


def push(real: ContainerRegistry, folder: Path, tag: str) -> str:
    """Push an image, let a tag mean it, and return its digest."""
    tree = folder / f"tree-{tag}"
    tree.mkdir()
    (tree / "a").write_text(str(tree))
    blobs = packager.image(tree, packager.parse("FROM scratch\nCOPY . /\nCMD x\n"))
    layout, digest = oci.Layout(folder / "layout"), list(blobs)[-1]
    layout.add(blobs, digest)
    context = tls_context(str(real.ca_file))
    with Registry(real.host, credential=Credential(LOGIN, PASSWORD), verify=context) as client:
        client.push("team/app", layout, digest)
        client.tag("team/app", digest, tag)
    return digest


def test_a_tag_that_means_another_image_shuts_the_gate_whatever_a_header_says(
    context, image, real, tmp_path, monkeypatch
) -> None:
    other = push(real, tmp_path, "v2")
    with proxy(real) as before:
        connect(monkeypatch, real, before.host)
        stated = {"Docker-Content-Digest": image.partition("@")[2]}
        before.faults = [Fault(times=9, status=200, method="HEAD", path="/manifests/v2", headers=stated)]
        with pytest.raises(AirflowFailException, match=f"GateFailed: .*:v2 is {other}, and not sha256:"):
            verify(context, image.replace(real.host, before.host), tag="v2")


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({"@": ":"}, {}, "names a tag|is no name of an image"),
        (
            {},
            {"key": "k.pub", "cosign": "no-such-cosign"},
            "'no-such-cosign' is not installed here. Install cosign",
        ),
        ({}, {"certificate_identity": "me"}, "belong together"),
        ({}, {"certificate_identity": "me", "certificate_issuer": "x", "key": "k"}, "both given"),
        ({}, {"attestations": ["spdxjson"]}, "demanded of nobody"),
        ({"localhost": "elsewhere.example.com"}, {}, "the image is in elsewhere.example.com:"),
    ],
)
def test_bad_input_is_one_clear_error(context, image, change, arguments, says: str) -> None:
    for old, new in change.items():
        image = image.replace(old, new).replace(":sha256:", ":v1")[
            : None if "@" not in change else image.index("@") + 3
        ]
    with pytest.raises(AirflowFailException, match=says):
        verify(context, image, **arguments)


@needs_cosign
def test_a_signature_by_the_key_opens_the_gate_and_nobody_elses_does(context, image, keys, tmp_path) -> None:
    with pytest.raises(AirflowFailException, match=r"GateFailed: .* has no signature by key"):
        verify(context, image, key=str(keys))
    signed = sign(context, image)
    assert image.endswith(signed["digest"])
    sign(context, image)
    result = verify(context, image, key=str(keys), tag="v1")
    assert result["verified"] == ["digest", "tag", "signature"]
    assert result["by"] == f"key {keys}"
    other = tmp_path / "other"
    other.mkdir()
    around = {**os.environ, "COSIGN_PASSWORD": ""}
    subprocess.run([COSIGN, "generate-key-pair"], cwd=other, env=around, check=True, capture_output=True)
    with pytest.raises(AirflowFailException, match=r"GateFailed: .* has no signature by key"):
        verify(context, image, key=str(other / "cosign.pub"))


@needs_cosign
def test_an_attestation_by_the_key_is_of_its_type(context, image, keys, real, tmp_path) -> None:
    predicate = tmp_path / "predicate.json"
    predicate.write_text('{"buildDefinition": {"buildType": "x"}, "runDetails": {"builder": {"id": "y"}}}')
    file = logins.write(tmp_path / "logins", {real.host: Credential(LOGIN, PASSWORD)})
    around = {**os.environ, "COSIGN_PASSWORD": "pa55-of-the-key", "DOCKER_CONFIG": str(file.parent)}
    subprocess.run(
        [COSIGN, "attest", "--yes", "--tlog-upload=false", f"--key={keys.parent / 'cosign.key'}", "--type=slsaprovenance1",
         f"--predicate={predicate}", f"--registry-cacert={real.ca_file}", image],
        env=around, check=True, capture_output=True,
    )  # fmt: skip
    assert verify(context, image, key=str(keys), attestations=["slsaprovenance1"])["verified"] == [
        "digest",
        "slsaprovenance1",
    ]
    with pytest.raises(AirflowFailException, match=r"GateFailed: .* has no attestation spdxjson by key"):
        verify(context, image, key=str(keys), attestations=["spdxjson"])


@needs_cosign
def test_a_wrong_password_of_the_key_is_told_and_not_shown(context, image, keys, monkeypatch) -> None:
    value = json.loads(os.environ["AIRFLOW_CONN_SIGNER"])
    monkeypatch.setenv("AIRFLOW_CONN_SIGNER", json.dumps({**value, "password": "wrong-pa55-word"}))
    with pytest.raises(
        AirflowFailException, match=r"SystemFailure: cosign ended with status .*decrypt"
    ) as raised:
        sign(context, image)
    assert "wrong-pa55-word" not in str(raised.value)


#: Notes how it was called, and says that it has verified the image that it was asked about.
STAND_IN = """#!{python}
import json, os, pathlib, sys
key = next(word.partition("=")[2] for word in sys.argv if word.startswith("--key="))
files = [key, os.path.join(os.environ["DOCKER_CONFIG"], "config.json")]
seen = {{name: [pathlib.Path(name).read_text(), os.stat(name).st_mode & 0o777] for name in files if os.path.exists(name)}}
with open("{calls}", "a") as file:
    print(json.dumps([sys.argv[1:], dict(os.environ), seen]), file=file)
print(json.dumps([{{"critical": {{"image": {{"docker-manifest-digest": sys.argv[-1].partition("@")[2]}}}}}}]))
"""


def test_what_cosign_is_given(context, image, real, tmp_path, monkeypatch) -> None:
    """By a program in its place: each argument and file, and that no secret is an argument, or is left behind."""
    program, calls = tmp_path / "cosign", tmp_path / "calls"
    program.write_text(STAND_IN.format(python=sys.executable, calls=calls))
    program.chmod(0o755)
    signer = {
        "conn_type": "generic",
        "password": "pa55-of-the-key",
        "extra": {"private_key": "the-private-key"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SIGNER", json.dumps(signer))
    monkeypatch.setenv("UNRELATED_SECRET", "x")
    given = {"image": image, "registry_conn_id": "reg", "cosign": str(program)}
    SignImageOperator(task_id="sign", signing_conn_id="signer", transparency_log=False, **given).execute(
        context
    )
    VerifyImageOperator(task_id="verify", key="k.pub", attestations=[], **given).execute(context)
    (signing, around, files), (verifying, later, others) = map(json.loads, calls.read_text().splitlines())
    key = signing[3].removeprefix("--key=")
    authority = f"--registry-cacert={real.ca_file}"
    assert signing == ["sign", authority, "--recursive", f"--key={key}", "--tlog-upload=false", image]
    assert verifying == ["verify", authority, "--output=json", "--key=k.pub", image]
    assert (around["COSIGN_PASSWORD"], around["COSIGN_YES"]) == ("pa55-of-the-key", "true")
    assert "COSIGN_PASSWORD" not in later
    assert "UNRELATED_SECRET" not in {*around, *later}
    assert files[key] == ["the-private-key", 0o600]
    logged_in = [one for name, one in {**files, **others}.items() if name.endswith("config.json")]
    assert len(logged_in) == 2
    assert all(real.host in json.loads(content)["auths"] and mode == 0o600 for content, mode in logged_in)
    assert not [name for name in {**files, **others} if Path(name).exists()]


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("WARNING: no such host\nError: no signatures found\nerror: no signatures found", GateFailed),
        ("Error: no matching signatures: invalid signature when validating ASN.1 encoded signature", GateFailed),
        ("Error: no matching attestations: none of the attestations matched the predicate type: spdxjson", GateFailed),
        ("Error: GET https://r/v2/a: UNAUTHORIZED: authentication required", AccessDenied),
        ("Error: Get \"https://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", Unreachable),
        ("Error: unknown flag: --nonsense", SystemFailure),
    ],
)  # fmt: skip
def test_what_cosign_says_is_told_apart(output: str, kind: type[Exception]) -> None:
    error = signatures.judged(Finished(1, False, 1.0, output), "it is not signed")
    assert type(error) is kind
    assert signatures.judged(Finished(0, False, 1.0, output), "x") is None
    assert type(signatures.judged(Finished(-15, True, 1.0, ""), "x")) is Unreachable


def test_what_was_signed_of_another_image_does_not_count() -> None:
    payload = {"critical": {"image": {"docker-manifest-digest": "sha256:a"}}}
    output = f"Verification for x --\nThe following checks\n{json.dumps([payload])}\n"
    assert signatures.payloads(output, "sha256:a") == [payload]
    assert signatures.payloads(output, "sha256:b") == []
