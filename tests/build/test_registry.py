"""Push to a real registry, which wants a login and TLS, and through a proxy that spoils calls."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_pipeops.base.http import tls_context
from airflow_pipeops.build import logins, oci, references
from airflow_pipeops.build.hook import RegistryHook
from airflow_pipeops.build.registry import Credential, Registry
from airflow_pipeops.demo import packager
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    Conflict,
    InvalidInput,
    NotFound,
    SystemFailure,
    Unreachable,
)
from tests.registry import LOGIN, PASSWORD, ContainerRegistry, Fault, Proxy, proxy, registry

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def before(real: ContainerRegistry) -> Iterator[Proxy]:
    with proxy(real) as running:
        yield running


def image(folder: Path, text: str = "1") -> tuple[oci.Layout, str]:
    """An image that no other test has."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    (tree / "app.py").write_text(f"{text} {folder}")
    blobs = packager.image(tree, packager.parse("FROM scratch\nCOPY . /app\nCMD x\n"))
    layout = oci.Layout(folder / "layout")
    layout.add(blobs, list(blobs)[-1])
    return layout, list(blobs)[-1]


def client(real: ContainerRegistry, host: str = "", **options: Any) -> Registry:
    options = {"credential": Credential(LOGIN, PASSWORD), "pause": 0.01, "timeout": 20.0, **options}
    return Registry(host or real.host, verify=tls_context(str(real.ca_file)), **options)


@pytest.mark.parametrize("status", [400, 405, 501])
def test_where_a_registry_knows_no_head_a_tag_is_read(
    real: ContainerRegistry, before: Proxy, tmp_path: Path, status: int
) -> None:
    layout, digest = image(tmp_path)
    with client(real) as one:
        one.push("team/headless", layout, digest)
        one.tag("team/headless", digest, "v1")
    before.faults = [Fault("status", "HEAD", "/manifests/", 99, status)]
    with client(real, before.host) as one:
        assert one.resolve("team/headless", "v1") == digest
        assert one.find("team/headless", "never") == ""
    assert before.faults[0].times < 99, "the fault never came"


def test_what_was_pushed_is_there_byte_by_byte_and_is_not_sent_again(real, before, tmp_path) -> None:
    layout, digest = image(tmp_path)
    with client(real, before.host) as one:
        assert one.find("team/a", "v1") == ""
        one.push("team/a", layout, digest)
        one.tag("team/a", digest, "v1")
        assert one.resolve("team/a", "v1") == digest
        assert one.manifest("team/a", digest).content == layout.blob(digest).read_bytes()
        before.calls.clear()
        one.push("team/a", layout, digest)
    assert real.manifest("team/a", "v1")[0] == digest
    for blob, content in layout.read()[0].items():
        if blob != digest:
            assert real.blob("team/a", blob) == content
    assert {method for method, path, _ in before.calls if "/blobs/" in path} == {"HEAD"}


def test_an_index_comes_with_its_images(real, tmp_path) -> None:
    layout, first = image(tmp_path)
    other, second = image(tmp_path / "other")
    layout.adopt(other, second)
    entries = [oci.descriptor(oci.MANIFEST, layout.blob(one).read_bytes()) for one in (first, second)]
    index = layout.write({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries})
    with client(real) as one:
        one.push("team/index", layout, index)
        one.tag("team/index", index, "all")
        assert one.manifest("team/index", "all").media_type == oci.INDEX
    assert real.manifest("team/index", second)[0] == second


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
        ("HEAD", "/blobs/"),
        ("GET", "/manifests/"),
    ],
)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=503),
        Fault("drop"),
        Fault("half"),
        Fault("cut"),
    ],
    ids=["500", "429", "503", "dropped", "half-sent", "truncated"],
)
def test_a_call_that_was_spoiled_is_made_again(real, before, tmp_path, method, path, fault) -> None:
    layout, digest = image(tmp_path)
    before.faults = [Fault(fault.does, method, path, 2, fault.status, fault.headers)]
    with client(real, before.host) as one:
        one.push("team/spoiled", layout, digest)
        one.tag("team/spoiled", digest, tmp_path.name.replace("[", "-").replace("]", ""))
    assert before.faults[0].times == 0, "the fault never came"
    assert real.manifest("team/spoiled", digest)[0] == digest


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Fault(status=500, times=99), Unreachable, "answered about .* with 500"),
        (Fault(status=429, times=99, headers={"Retry-After": "3600"}), Unreachable, "with 429"),
        (Fault("drop", times=99), Unreachable, "gave no whole answer"),
        (Fault(status=403, method="POST", body=b'{"errors":[{"code":"DENIED","message":"no push for robots"}]}'),
         AccessDenied, "no push for robots.*May this account push"),
        (Fault(status=403, method="POST",
               body=b'{"errors":[{"code":"DENIED","message":"adding 1 GiB will exceed the quota"}]}'), SystemFailure,
         "has no room .*exceed the quota.*raise the quota"),
        (Fault(status=413, method="PUT"), SystemFailure, "has no room .*the limit of the proxy"),
        (Fault(status=507), SystemFailure, "has no room"),
        (Fault(status=400, method="PUT", path="/manifests/",
               body=b'{"errors":[{"code":"TAG_IMMUTABLE","message":"the tag is immutable"}]}'), Conflict,
         "may not be moved"),
    ],
)  # fmt: skip
def test_a_registry_that_will_not_is_one_clear_error_and_no_image_is_seen(
    real, before, tmp_path, fault, error, says
) -> None:
    layout, digest = image(tmp_path)
    before.faults = [Fault(**{**vars(fault), "path": fault.path or "/team/"})]
    with client(real, before.host) as one, pytest.raises(error, match=says) as raised:
        one.push("team/never", layout, digest)
    assert PASSWORD not in str(raised.value)
    assert real.ask("HEAD", f"/v2/team/never/manifests/{digest}")[0] == 404


def test_a_long_pause_that_is_asked_for_is_not_waited_for(real, before, tmp_path) -> None:
    layout, digest = image(tmp_path)
    before.faults = [Fault(status=429, times=99, headers={"Retry-After": "3600"})]
    with client(real, before.host) as one, pytest.raises(Unreachable) as raised:
        one.push("team/busy", layout, digest)
    assert raised.value.retry_after == 3600
    assert len(before.calls) == 1


def test_a_registry_that_dies_in_mid_push_has_the_image_once_it_is_back(real, before, tmp_path) -> None:
    layout, digest = image(tmp_path)

    def die() -> None:
        real.kill()
        threading.Timer(0.3, real.start).start()

    before.faults = [Fault(die, "PUT", "/blobs/uploads/")]
    with client(real, before.host, attempts=40, pause=0.1) as one:
        one.push("team/died", layout, digest)
        assert one.manifest("team/died", digest).digest == digest


def test_an_answer_that_is_not_what_its_digest_says_is_not_believed(real, before, tmp_path) -> None:
    layout, digest = image(tmp_path)
    with client(real) as one:
        one.push("team/lie", layout, digest)
        one.tag("team/lie", digest, "v1")
    shorter = layout.blob(digest).read_bytes()[:-1]
    stated = {"Docker-Content-Digest": digest}
    before.faults = [
        Fault(status=200, method="GET", path="/manifests/", times=99, body=shorter, headers=stated)
    ]
    with client(real, before.host) as one:
        for reference in (digest, "v1"):
            with pytest.raises(BadResponse, match=f"and not {digest}"):
                one.manifest("team/lie", reference)


def test_a_tag_that_is_at_another_image_right_after_is_a_conflict(real, before, tmp_path) -> None:
    layout, digest = image(tmp_path)
    other, second = image(tmp_path / "other")
    with client(real) as direct:
        direct.push("team/race", other, second)
        before.faults = [Fault(lambda: direct.tag("team/race", second, "v1"), "GET", "/manifests/v1")]
        with client(real, before.host) as one:
            one.push("team/race", layout, digest)
            with pytest.raises(Conflict, match=f"is {second} right after it was pushed as {digest}"):
                one.tag("team/race", digest, "v1")


def test_without_a_login_or_with_a_wrong_one_or_an_unknown_authority(real, tmp_path) -> None:
    layout, digest = image(tmp_path)
    for credential, says in (
        (None, "wants a login .*no credential is known for it.*auth_file"),
        (Credential(LOGIN, "wrong-pa55"), "wants a login .*the credential is not accepted"),
    ):
        with client(real, credential=credential) as one, pytest.raises(AccessDenied, match=says):
            one.push("team/a", layout, digest)
    stranger = Registry(real.host, credential=Credential(LOGIN, PASSWORD), pause=0.01)
    with stranger as one, pytest.raises(AccessDenied, match=r"certificate .* is not trusted.*ca_file"):
        one.check()
    with client(real) as one, pytest.raises(NotFound):
        one.resolve("team/nothing", "v1")


class TokenServer:
    """Hands out tokens as a registry's token server does, and signs them with its key."""

    def __init__(self, folder: Path) -> None:
        import jwt
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        from tests.registry import certificate

        folder.mkdir()
        self.file = certificate(folder)
        key = (folder / "tls.key").read_bytes()
        der = x509.load_pem_x509_certificate(self.file.read_bytes()).public_bytes(Encoding.DER)
        self.asked: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def _answer(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
                query = {**parse_qs(urlsplit(self.path).query), **form}
                server.asked.append({**query, "authorization": self.headers.get("Authorization")})
                access = []
                for scope in query.get("scope", []):
                    kind, name, actions = scope.split(":")
                    access.append({"type": kind, "name": name, "actions": actions.split(",")})
                now = int(time.time())
                claims = {"iss": "tests", "sub": LOGIN, "aud": "registry", "exp": now + 300, "nbf": now - 60, "iat": now,
                          "jti": str(now), "access": access}  # fmt: skip
                token = jwt.encode(claims, key, "ES256", headers={"x5c": [b64encode(der).decode()]})
                body = json.dumps({"token": token}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _answer

        import ssl

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, folder / "tls.key")
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://localhost:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    ("credential", "sent"),
    [
        (Credential(LOGIN, PASSWORD), {"authorization": f"Basic {b64encode(f'{LOGIN}:{PASSWORD}'.encode()).decode()}"}),
        (Credential(identity="refresh-me-1"), {"refresh_token": ["refresh-me-1"], "grant_type": ["refresh_token"]}),
        (None, {"authorization": None}),
    ],
    ids=["password", "identity-token", "anonymous"],
)  # fmt: skip
def test_a_registry_that_sends_us_for_a_token_gets_one(tmp_path, credential, sent) -> None:
    server = TokenServer(tmp_path / "tokens")
    auth = {
        "token": {
            "realm": server.url,
            "service": "registry",
            "issuer": "tests",
            "rootcertbundle": str(server.file),
        }
    }
    try:
        with registry(tmp_path / "registry", auth) as real:
            both = tmp_path / "both.crt"
            both.write_bytes(real.ca_file.read_bytes() + server.file.read_bytes())
            layout, digest = image(tmp_path / "image")
            with Registry(real.host, credential=credential, verify=tls_context(str(both)), pause=0.01) as one:
                one.push("team/a", layout, digest)
                one.tag("team/a", digest, "v1")
                assert one.resolve("team/a", "v1") == digest
    finally:
        server.close()
    assert {scope for asked in server.asked for scope in asked["scope"]} == {
        "repository:team/a:pull", "repository:team/a:pull,push",
    }  # fmt: skip
    assert len(server.asked) == 2, "a token is kept"
    assert all(asked[name] == value for asked in server.asked for name, value in sent.items())


def test_the_credential_is_not_sent_where_tls_is_missing(real, before) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://localhost:1/token",service="x"'}
    before.faults = [Fault(status=401, headers=challenge, times=9)]
    with client(real, before.host) as one, pytest.raises(AccessDenied, match="which is not https"):
        one.check()


# The connection


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(**fields: Any) -> RegistryHook:
        given = {"conn_type": "container_registry", **fields}
        monkeypatch.setenv("AIRFLOW_CONN_REG", json.dumps(given))
        return RegistryHook("reg")

    return made


def test_the_connection_is_tested(real, connection, tmp_path) -> None:
    host, ca = real.host, {"ca_file": str(real.ca_file)}
    good = connection(host=f"{host}/team", login=LOGIN, password=PASSWORD, extra=ca)
    assert good.test_connection() == (True, f"{host} answers, and is used as {LOGIN}")
    assert str(good.settings().reference("shop")) == f"{host}/team/shop"
    assert connection(host=host, extra=ca).test_connection()[0] is False
    for fields, says in (
        ({"login": LOGIN, "password": "wrong-pa55", "extra": ca}, "credential is not accepted"),
        ({"login": LOGIN, "password": PASSWORD}, "is not trusted"),
        ({"extra": {"ca_flie": "x"}}, "Did you mean 'ca_file'"),
        ({"extra": {"verify_tls": "no"}}, "verify_tls"),
        ({"extra": {"auth_file": "/none"}}, "auth file '/none' cannot be read"),
        ({"host": ""}, "names no registry"),
        ({"host": "https://u:p@x"}, "names no registry"),
        ({"host": "Reg.example.com/UPPER"}, "names no registry"),
    ):
        worked, said = connection(**{"host": host, **fields}).test_connection()
        assert not worked
        assert says in said
    auth = logins.write(tmp_path / "auth", {host: Credential(LOGIN, PASSWORD)})
    assert auth.stat().st_mode & 0o077 == 0
    mounted = connection(host=host, extra={**ca, "auth_file": str(auth)})
    assert mounted.test_connection()[0] is True


def test_a_connection_of_airflows_docker_provider_will_do(connection) -> None:
    made = connection(
        conn_type="docker",
        host="https://index.docker.io/v1/",
        login="me",
        password="pa55-word",
        extra={"email": "a@b", "reauth": False},
    ).settings()
    assert (made.host, made.path, made.plain) == ("docker.io", "", False)
    assert made.client().url == "https://registry-1.docker.io"
    other = connection(conn_type="docker", host="http://registry.example.com", port=5000).settings()
    assert (other.host, other.plain) == ("registry.example.com:5000", True)


def test_logins_are_found_as_container_tools_keep_them(tmp_path) -> None:
    packed = b64encode(b"me:pa55:word").decode()
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({
            "auths": {
                "https://index.docker.io/v1/": {"auth": packed},
                "quay.io/team": {"username": "team", "password": "pa55-1"},
                "quay.io": {"identitytoken": "long-token-1"},
                "empty.example.com": {},
            },
            "credHelpers": {"gcr.io": "gcloud"},
        })
    )  # fmt: skip
    hub = logins.read(file, "docker.io", "library/python")
    assert hub is not None
    assert (hub.login, hub.password) == ("me", "pa55:word")
    team = logins.read(file, "quay.io", "team/x")
    assert team is not None
    assert team.login == "team"
    other = logins.read(file, "quay.io", "teams/x")
    assert other is not None
    assert other.identity == "long-token-1"
    assert logins.read(file, "empty.example.com") is None
    with pytest.raises(InvalidInput, match="docker-credential-gcloud"):
        logins.read(file, "gcr.io", "x")
    # A file that nobody has named is of use, or it is not.
    assert logins.read(file, "gcr.io", "x", must=False) is None
    assert logins.read(tmp_path / "none.json", "gcr.io", must=False) is None
    assert "pa55" not in repr(hub)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("team/app", "docker.io/team/app"),
        ("localhost/app", "localhost/app"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("[::1]:5000/a", "[::1]:5000/a"),
        ("index.docker.io/library/x", "docker.io/library/x"),
        ("r.example.com/a@sha256:" + "a" * 64, "r.example.com/a@sha256:" + "a" * 64),
    ],
)
def test_names_of_images(text: str, said: str) -> None:
    assert str(references.parse(text)) == said


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a b", "a@sha256:1", "a:", "a@", "-x/y", "a//b", "a:b:c", None, 7, "x.y/", "a/../b"]
)
def test_what_is_no_name_of_an_image(text) -> None:
    with pytest.raises(InvalidInput, match="is no name of an image"):
        references.parse(text)


def test_a_tag_where_a_digest_is_needed() -> None:
    with pytest.raises(
        InvalidInput, match="names a tag, which may be another image tomorrow; a digest is needed"
    ):
        references.by_digest("team/app:1")
