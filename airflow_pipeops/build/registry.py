"""Talks to a container registry (OCI distribution): what a tag means, is an image there, push one.

Nothing is believed that can be checked: what is read is hashed, and what was pushed is read back. An upload that
broke is begun
again, which is safe: a blob is named by its content, and the manifest, which makes an image visible, comes last.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.blocking import bounded
from airflow_pipeops.base.documents import Json, map_, maps, parsed, text
from airflow_pipeops.base.http import REFUSAL, pieces, retry_after, untrusted
from airflow_pipeops.base.retries import LONGEST_PAUSE, jittered
from airflow_pipeops.build import oci
from airflow_pipeops.build.references import HUB, HUB_API
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    Conflict,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt, remember

if TYPE_CHECKING:
    import httpx

#: What a manifest may be, in bytes, as registries have it.
_MANIFEST = 4 * 1024**2
_CHUNK = 1024**2
_DOCKER = "application/vnd.docker.distribution.manifest"
ACCEPTED = ", ".join((oci.INDEX, oci.MANIFEST, f"{_DOCKER}.list.v2+json", f"{_DOCKER}.v2+json"))
Result = TypeVar("Result")
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')
#: How a registry answers that does not list referrers, and how many pages of a list are read at most.
_NO_REFERRERS, _PAGES = (400, 404, 405, 501), 50
#: How a registry, or a proxy before it, answers that knows no HEAD of a manifest.
_NO_HEAD = (400, 405, 501)
_NEXT = re.compile(r"<([^>]+)>\s*;\s*rel=\"?next")
_FULL = re.compile(r"(?i)quota|exceed|storage limit|no space|too large")


@dataclass(frozen=True)
class Credential:
    """Who we are to a registry.

    :param login: name of the user or robot.
    :param password: password or token.
    :param identity: a refresh token in place of both, as some registries hand out.
    """

    login: str = ""
    password: str = ""
    identity: str = ""

    def __post_init__(self) -> None:
        remember(self.password, self.identity, self.basic)

    def __repr__(self) -> str:
        return f"Credential({self.login!r})"

    @property
    def basic(self) -> str:
        """The value of a header of basic authentication, without its scheme."""
        return b64encode(f"{self.login}:{self.password}".encode()).decode() if self.login else ""


@dataclass(frozen=True)
class Manifest:
    """A manifest or index, as it is in the registry.

    :param digest: of its content; checked.
    :param media_type: what it is.
    :param content: its bytes.
    """

    digest: str
    media_type: str
    content: bytes


class Registry:
    """One registry.

    :param host: name, with a port if it has one.
    :param credential: ``None`` for what everybody may read.
    :param verify: an SSL context, or whether certificates are checked.
    :param plain: HTTP without TLS.
    :param timeout: seconds without progress after which a call is given up; an answer has as long in all.
    :param attempts: how often a call is tried at most.
    :param pause: seconds before the second attempt; it doubles from there.
    """

    def __init__(
        self,
        host: str,
        *,
        credential: Credential | None = None,
        verify: Any = True,
        plain: bool = False,
        timeout: float = 60.0,
        attempts: int = 4,
        pause: float = 0.5,
    ) -> None:
        self.host, self.credential = host, credential
        self.url = f"{'http' if plain else 'https'}://{HUB_API if host == HUB else host}"
        self._verify, self._timeout, self._attempts, self._pause = verify, timeout, attempts, pause
        self._tokens: dict[str, str] = {}
        self._client: httpx.Client | None = None

    def __enter__(self) -> Registry:
        import httpx

        verify = authorities(self._verify)
        client = httpx.Client(timeout=self._timeout, verify=verify, follow_redirects=False)
        self._client = bounded(client, self._timeout)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._client is not None
        self._client.close()

    # Read

    def check(self) -> None:
        """Reach the registry, and have the credential accepted.

        :raises PipeOpsError: if either fails.
        """
        self._call("GET", "/v2/", f"registry {self.host}", "", good=(200,))

    def resolve(self, repository: str, reference: str) -> str:
        """Find the digest that a tag means now.

        :return: the digest.
        :raises NotFound: if there is none.
        """
        path, scope, about = self._manifest_path(repository, reference)
        answer = self._call("HEAD", path, about, scope, good=(200, *_NO_HEAD), headers={"Accept": ACCEPTED})
        found = answer.headers.get("Docker-Content-Digest", "") if answer.status == 200 else ""
        if not oci.is_digest(found) or (oci.is_digest(reference) and found != reference):
            return self.manifest(repository, reference).digest
        return str(found)

    def manifest(self, repository: str, reference: str) -> Manifest:
        """Read a manifest, and check it against the digest that was asked for, or that the registry states.

        :return: the manifest.
        :raises NotFound: if there is none.
        :raises BadResponse: if the content is not what its digest says.
        """
        path, scope, about = self._manifest_path(repository, reference)

        def check(answer: _Answer) -> None:
            digest = oci.digest_of(answer.content)
            stated = (
                reference if oci.is_digest(reference) else answer.headers.get("Docker-Content-Digest", digest)
            )
            if digest != stated:
                raise BadResponse(
                    f"{self.url} answered about {about} with {len(answer.content)} bytes that are {digest}, "
                    f"and not {stated}"
                )

        answer = self._call(
            "GET", path, about, scope, good=(200,), headers={"Accept": ACCEPTED}, most=_MANIFEST, check=check
        )
        kind = text(_document(answer.content).get("mediaType")) or answer.headers.get("Content-Type", "")
        return Manifest(oci.digest_of(answer.content), kind, answer.content)

    def find(self, repository: str, reference: str) -> str:
        """Find the digest that a tag means now; empty if there is no such tag."""
        try:
            return self.resolve(repository, reference)
        except NotFound:
            return ""

    def referrers(self, repository: str, subject: str) -> list[Json]:
        """List what was attached to a subject, which need not be there itself.

        :param subject: a digest.
        :return: descriptors of manifests; of a registry without such a list, those that the tag of the subject has.
        """
        path, scope = f"/v2/{repository}/referrers/{subject}", _scope(repository)
        about, found = f"what refers to {subject} in {self.host}/{repository}", []
        for _ in range(_PAGES):
            answer = self._call(
                "GET",
                path,
                about,
                scope,
                good=(200, *_NO_REFERRERS),
                headers={"Accept": oci.INDEX},
                most=_MANIFEST,
            )
            if answer.status != 200:
                return maps(self._fallback(repository, subject).get("manifests"))
            found += maps(_document(answer.content).get("manifests"))
            following = _NEXT.search(answer.headers.get("Link", ""))
            if following is None:
                break
            path = urljoin(urljoin(self.url, path), following[1])  # a whole URL, from the second page on
        return found

    def _fallback(self, repository: str, subject: str) -> Json:
        try:
            return _document(self.manifest(repository, subject.replace(":", "-")).content)
        except NotFound:
            return {}

    # Write

    def refer(self, repository: str, artifact: Json) -> None:
        """Attach an artifact to its subject; where the registry lists no such thing, in the tag of the subject.

        :param artifact: its manifest, whose blobs are there.
        """
        content, subject = oci.canonical(artifact), str(artifact["subject"]["digest"])
        digest = oci.digest_of(content)
        answer = self._put_manifest(repository, digest, content, oci.MANIFEST)
        if answer.headers.get("OCI-Subject", "") == subject:
            return
        listed = maps(self._fallback(repository, subject).get("manifests"))
        if all(one.get("digest") != digest for one in listed):
            own = {name: artifact[name] for name in ("artifactType", "annotations") if name in artifact}
            entry = {**oci.descriptor(oci.MANIFEST, content), **own}
            index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [*listed, entry]}
            self._put_manifest(repository, subject.replace(":", "-"), oci.canonical(index), oci.INDEX)

    def put_blob(self, repository: str, content: bytes) -> None:
        """Push a small blob."""
        self._push(repository, oci.digest_of(content), len(content), lambda: content)

    def push(self, repository: str, layout: oci.Layout, digest: str) -> None:
        """Push an image by its digest: first what it refers to, and its manifest last.

        :param layout: where it is.
        :param digest: of its manifest or index.
        """
        manifest = layout.document(digest)
        for entry in maps(manifest.get("manifests")):
            self.push(repository, layout, str(entry["digest"]))
        for blob in maps([manifest.get("config"), *(manifest.get("layers") or ())]):
            self._push_blob(repository, layout.blob(str(blob["digest"])), str(blob["digest"]))
        self._put_manifest(repository, digest, layout.blob(digest).read_bytes(), str(manifest["mediaType"]))

    def tag(self, repository: str, digest: str, tag: str) -> None:
        """Let a tag mean an image that is there, and read back that it does.

        :raises Conflict: if the tag means another one all the same.
        """
        found = self.manifest(repository, digest)
        self._put_manifest(repository, tag, found.content, found.media_type)
        now = self.manifest(repository, tag).digest
        if now != digest:
            raise Conflict(
                f"{self.host}/{repository}:{tag} is {now} right after it was pushed as {digest}",
                remedy="Somebody else pushes the same tag. Does another pipeline build this image?",
            )

    def _put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> _Answer:
        path, _, about = self._manifest_path(repository, reference)
        return self._call(
            "PUT", path, about, _scope(repository, write=True), good=(201, 202), content=lambda: content,
            headers={"Content-Type": media_type}, repeatable=True,
        )  # fmt: skip

    def _push_blob(self, repository: str, file: Path, digest: str) -> None:
        self._push(repository, digest, file.stat().st_size, lambda: _chunks(file))

    def _push(self, repository: str, digest: str, size: int, content: Callable[[], Any]) -> None:
        scope, about = _scope(repository, write=True), f"a layer of {repository}"
        base = f"/v2/{repository}/blobs/"

        def upload() -> None:
            there = self._call("HEAD", base + digest, about, scope, good=(200, 404), attempts=1)
            if there.status == 200:
                return
            begun = self._call(
                "POST", base + "uploads/", about, scope, good=(202,), attempts=1, content=lambda: b""
            )
            where = begun.headers.get("Location", "")
            if not where:
                raise BadResponse(f"{self.url} began an upload of {about} without saying where it goes")
            target = urljoin(self.url + base + "uploads/", where)
            if urlsplit(target).netloc == urlsplit(self.url).netloc:
                # A registry behind a proxy that ends TLS does not know that it is asked by https.
                target = self.url + target.partition(urlsplit(target).netloc)[2]
            mark = "&" if urlsplit(target).query else "?"
            self._call(
                "PUT", f"{target}{mark}digest={digest}", about, scope, good=(201,), attempts=1,
                content=content,
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            )  # fmt: skip

        self._tried(upload, repeatable=True)

    # One call

    def _manifest_path(self, repository: str, reference: str) -> tuple[str, str, str]:
        mark = "@" if oci.is_digest(reference) else ":"
        about = f"{self.host}/{repository}{mark}{reference}"
        return f"/v2/{repository}/manifests/{reference}", _scope(repository), about

    def _call(
        self,
        method: str,
        path: str,
        about: str,
        scope: str,
        *,
        good: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Any] | None = None,
        most: int = REFUSAL,
        attempts: int | None = None,
        repeatable: bool = False,
        check: Callable[[_Answer], None] = lambda answer: None,
    ) -> _Answer:
        """Make a call, with the credential that the registry asks for.

        :param path: below the registry's URL, or a whole URL, as uploads are given.
        :param good: statuses that are no error.
        :param content: returns the body, anew for each attempt.
        :param check: raises if the answer makes no sense.
        """

        def once() -> _Answer:
            answer = self._authorised(method, urljoin(self.url, path), scope, headers or {}, content, most)
            if answer.status not in good:
                raise self._failure(answer, about)
            check(answer)
            return answer

        return self._tried(once, repeatable or method in ("GET", "HEAD"), attempts)

    def _tried(self, call: Callable[[], Result], repeatable: bool, attempts: int | None = None) -> Result:
        attempts = attempts or self._attempts
        for attempt in range(1, attempts + 1):
            try:
                return call()
            except (Unreachable, BadResponse) as error:
                asked = getattr(error, "retry_after", 0.0)
                if attempt == attempts or not repeatable or asked > LONGEST_PAUSE:
                    raise
                time.sleep(jittered(self._pause * 2.0 ** (attempt - 1), 0.5, 1.5) + asked)
        raise AssertionError("unreachable")

    def _authorised(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str],
        content: Callable[[], Any] | None,
        most: int,
    ) -> _Answer:
        # Where an upload goes is the registry's word; our credential is for the registry alone.
        ours = urlsplit(url).netloc == urlsplit(self.url).netloc and url.startswith(self.url)
        known = self._tokens.get(scope, "") if ours else ""
        # A body is only sent once the registry is known to take the credential: the calls before it are without one.
        answer = self._send(
            method, url, {**headers, **({"Authorization": known} if known else {})}, content, most
        )
        if answer.status != 401 or not ours:
            return answer
        fresh = self._authorisation(answer, scope)
        if not fresh or fresh == known:
            return answer
        self._tokens[scope] = fresh
        return self._send(method, url, {**headers, "Authorization": fresh}, content, most)

    def _authorisation(self, refusal: _Answer, scope: str) -> str:
        """Return the header that the registry asks for; empty if we have nothing to give."""
        challenge = refusal.headers.get("WWW-Authenticate", "")
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return f"Basic {self.credential.basic}" if self.credential and self.credential.basic else ""
        if scheme.lower() != "bearer":
            return ""
        asked = {name.lower(): value for name, value in _CHALLENGE.findall(rest)}
        realm = urlsplit(asked.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and self.url.startswith("http:")):
            raise AccessDenied(
                f"{self.url} sends us for a token to {asked.get('realm', '')!r}, which is not https: "
                "the credential is not sent there"
            )
        params = {"service": asked.get("service", ""), "scope": scope or asked.get("scope", "")}
        return self._token(asked["realm"], {name: value for name, value in params.items() if value})

    def _token(self, realm: str, params: dict[str, str]) -> str:
        import httpx

        one = self.credential
        method, url, headers, body = "GET", str(httpx.URL(realm).copy_merge_params(params)), {}, None
        if one and one.identity:
            form = {
                **params,
                "grant_type": "refresh_token",
                "refresh_token": one.identity,
                "client_id": "airflow-pipeops",
            }
            encoded = str(httpx.QueryParams(form)).encode()
            method, url, body = "POST", realm, lambda: encoded
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        elif one and one.basic:
            headers = {"Authorization": f"Basic {one.basic}"}
        answer = self._send(method, url, headers, body, REFUSAL)
        if answer.status != 200:
            raise self._failure(answer, f"a token for {self.host}")
        document = _document(answer.content)
        token = text(document.get("token")) or text(document.get("access_token"))
        if not token:
            raise BadResponse(f"{realm} answered about a token for {self.host} without one")
        remember(token)
        return f"Bearer {token}"

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], content: Callable[[], Any] | None, most: int
    ) -> _Answer:
        import httpx

        assert self._client is not None
        try:
            sent = {"Accept-Encoding": "identity", **headers}
            body = content() if content else None
            with self._client.stream(method, url, headers=sent, content=body) as response:
                found = bytearray()
                for piece in pieces(response) if method != "HEAD" else ():
                    found += piece
                    if len(found) > most and response.status_code < 300:
                        raise SystemFailure(
                            f"{self.host} answered with more than {most:,} bytes; the rest was not read"
                        )
                    if len(found) > most:
                        break
                return _Answer(response.status_code, response.headers, bytes(found[:most]))
        except httpx.InvalidURL as error:
            raise BadResponse(f"{self.host} named a URL that is none: {error}") from error
        except (httpx.HTTPError, OSError) as error:
            where = urlsplit(url)
            if refused := untrusted(f"{where.scheme}://{where.netloc}", error):
                raise refused from error
            words = str(error) or type(error).__name__
            raise Unreachable(f"{where.netloc} gave no whole answer: {words}") from error

    def _failure(self, answer: _Answer, about: str) -> PipeOpsError:
        errors = maps(_document(answer.content).get("errors"))
        code = text(errors[0].get("code")) if errors else ""
        said = excerpt(
            "; ".join(filter(None, (text(one.get("message")) for one in errors))) or answer.content, 300
        )
        words = f"{self.host} answered about {about} with {answer.status}" + (f" ({said})" if said else "")
        status = answer.status
        if status == 429 or (status >= 500 and status != 507):
            busy = Unreachable(words, remedy="It is busy or out of order; the task tries again.")
            busy.retry_after = retry_after(answer.headers.get("Retry-After", ""))
            return busy
        if status in (413, 507) or (status in (400, 403, 412) and _FULL.search(said)):
            return SystemFailure(
                f"{self.host} has no room for {about}: {status}" + (f" ({said})" if said else ""),
                remedy="Delete images there, raise the quota of the project, or the limit of the proxy before it.",
            )
        if code == "TAG_IMMUTABLE" or "immutable" in said.lower():
            return Conflict(
                words, remedy="The tag is at another image and may not be moved: use another tag."
            )
        if status == 401:
            none = (
                "and no credential is known for it"
                if self.credential is None
                else "the credential is not accepted"
            )
            return AccessDenied(
                f"{self.host} wants a login for {about}: {none}" + (f" ({said})" if said else ""),
                remedy="Set login and password of the registry's connection, or an auth_file with an entry for it.",
            )
        if status == 403:
            return AccessDenied(words, remedy="May this account push to, or pull from, this repository?")
        if status == 404:
            return NotFound(
                words, remedy="Check the name and the tag; some registries hide what may not be seen."
            )
        return SystemFailure(words)


@dataclass(frozen=True)
class _Answer:
    """An answer, read as far as it is of interest.

    :param status: HTTP status.
    :param headers: its headers.
    :param content: its body.
    """

    status: int
    headers: Any
    content: bytes


def _scope(repository: str, *, write: bool = False) -> str:
    return f"repository:{repository}:pull" + (",push" if write else "")


def _chunks(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _document(content: bytes) -> Json:
    try:
        return map_(parsed(content))
    except ValueError:
        return {}
