"""Sign images and verify signatures and attestations, by the program cosign of Sigstore."""

from __future__ import annotations

import os
import re
import shutil
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_pipeops.base.documents import map_, maps, parsed, text
from airflow_pipeops.build import logins
from airflow_pipeops.build.hook import RegistrySettings
from airflow_pipeops.build.process import Command, Finished, environment
from airflow_pipeops.build.references import Reference
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    GateFailed,
    InvalidInput,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt

_INSTALL = (
    "Install cosign where the task runs (https://docs.sigstore.dev/cosign/system_config/installation/), or name its path in "
    "cosign=."
)
_REFUSED = re.compile(
    r"(?i)no (?:matching )?(?:signatures|attestations)|invalid signature|none of the (?:expected|attestations)"
    r"|predicate type|not found in transparency log|failed to verify signature|accepted signatures do not match"
)
_DENIED = re.compile(r"(?i)\bUNAUTHORIZED\b|\bDENIED\b|unexpected status code 40[13]")
_UNREACHABLE = re.compile(
    r"(?i)connection refused|no such host|i/o timeout|deadline exceeded|unexpected status code (?:429|5\d\d)"
)
#: What cosign needs of our environment beside the usual: where Sigstore is, a proxy, and the credentials of key services.
_KEPT = re.compile(r"(?i)(SIGSTORE|TUF|COSIGN|REKOR|FULCIO|AWS|AZURE|GOOGLE|VAULT)_\w+|(https?|no)_proxy")


@dataclass(frozen=True)
class Identity:
    """Who must have signed.

    :param key: public key: a path, or the URI of a key service; empty for a certificate.
    :param certificate: the identity in a certificate of Sigstore, such as the address of a workflow; empty for a key.
    :param issuer: who vouched for it, the URL of an OpenID provider.
    :param transparency_log: whether the public log must have an entry, too.
    """

    key: str = ""
    certificate: str = ""
    issuer: str = ""
    transparency_log: bool = True

    @property
    def words(self) -> str:
        """Who it is, for people."""
        return f"key {self.key}" if self.key else f"{self.certificate} (by {self.issuer})"

    def options(self) -> tuple[str, ...]:
        """Return cosign's options."""
        who = (
            (f"--key={self.key}",)
            if self.key
            else (f"--certificate-identity={self.certificate}", f"--certificate-oidc-issuer={self.issuer}")
        )
        return who if self.transparency_log else (*who, "--insecure-ignore-tlog=true")


class Cosign:
    """The program.

    :param program: its name or path.
    :param run: starts a command and waits for it.
    :param settings: of the image's registry.
    :param scratch: a folder for what it needs to know, which nobody else may read.
    :param timeout: for each call.
    """

    def __init__(
        self,
        program: str,
        run: Callable[[Command], Finished],
        settings: RegistrySettings,
        scratch: Path,
        timeout: timedelta,
    ) -> None:
        if shutil.which(program) is None:
            raise InvalidInput(
                f"{program!r} is not installed here", field="cosign", value=program, remedy=_INSTALL
            )
        self._program, self._run, self._settings, self._timeout = program, run, settings, timeout
        kept = [name for name in os.environ if _KEPT.fullmatch(name)]
        extra = {"COSIGN_YES": "true"}
        if settings.credential:
            file = logins.write(scratch / "logins", {settings.host: settings.credential})
            extra["DOCKER_CONFIG"] = str(file.parent)
        self._environment = environment(scratch, extra, keep=kept)

    def verify(self, image: Reference, identity: Identity, attestation: str = "") -> list[Mapping[str, Any]]:
        """Demand a signature, or an attestation, by an identity.

        :param image: by digest.
        :param attestation: type of its predicate, such as ``slsaprovenance1`` or ``spdxjson``; empty for a signature.
        :return: what was signed: the payloads of signatures, or the statements.
        :raises GateFailed: if there is none.
        """
        verb = ("verify-attestation", f"--type={attestation}") if attestation else ("verify", "--output=json")
        name = image.at(image.digest)
        finished = self._call(*verb, *identity.options(), name)
        what = f"attestation {attestation}" if attestation else "signature"
        if error := judged(finished, f"{name} has no {what} by {identity.words}"):
            raise error
        found = payloads(finished.output, image.digest)
        if not found:
            raise BadResponse(f"cosign accepted {name} and printed no {what} of {image.digest}")
        return found

    def sign(self, image: Reference, key: str, password: str, *, transparency_log: bool) -> None:
        """Sign an image, and each of its platforms.

        :param image: by digest.
        :param key: private key: a path, or the URI of a key service.
        :param password: of the key file.
        """
        name = image.at(image.digest)
        log = () if transparency_log else ("--tlog-upload=false",)
        finished = self._call("sign", "--recursive", f"--key={key}", *log, name, COSIGN_PASSWORD=password)
        if error := judged(finished, f"{name} was not signed"):
            raise error

    def _call(self, verb: str, *arguments: str, **variables: str) -> Finished:
        settings = self._settings
        reach = (
            *((f"--registry-cacert={settings.ca_file}",) if settings.ca_file else ()),
            *(("--allow-insecure-registry=true",) if not settings.verify_tls else ()),
            *(("--allow-http-registry=true",) if settings.plain else ()),
        )
        command = Command(
            [self._program, verb, *reach, *arguments],
            cwd=Path("/"),
            env={**self._environment, **variables},
            timeout=self._timeout,
        )
        return self._run(command)


def judged(finished: Finished, refused: str) -> PipeOpsError | None:
    """Say what the end of a call means. Pure.

    :param refused: what is said where cosign found that it is not so.
    :return: the error; ``None`` if all is well.
    """
    # It warns of much that has no part in the end, such as that Sigstore cannot be reached where a key is used.
    lines = [line for line in finished.output.strip().splitlines() if not line.startswith("WARNING")]
    said = excerpt("\n".join(lines[-3:]), 600)
    if finished.timed_out:
        return Unreachable(f"cosign did not end in time: {said}")
    if finished.status == 0:
        return None
    if _DENIED.search(said):
        return AccessDenied(f"the registry denies cosign: {said}", remedy="Does the connection have a login?")
    if _UNREACHABLE.search(said):
        return Unreachable(f"cosign cannot reach what it needs: {said}")
    if _REFUSED.search(said):
        return GateFailed(f"{refused}: {said}")
    return SystemFailure(f"cosign ended with status {finished.status}: {said}")


def payloads(output: str, digest: str) -> list[Mapping[str, Any]]:
    """Read what cosign printed as verified, and leave out what is about another image. Pure.

    :param output: its output; other lines may be between.
    :param digest: of the image.
    :return: the payloads.
    """
    found: list[Mapping[str, Any]] = []
    for line in output.splitlines():
        try:
            value = parsed(line)
        except ValueError:
            continue
        for one in maps(value if isinstance(value, list) else [value]):
            found += [one] if _signed(one) == digest else []
            found += [statement for statement in _statement(one) if f"sha256:{_subject(statement)}" == digest]
    return found


def _signed(payload: Mapping[str, Any]) -> str:
    return text(map_(map_(payload.get("critical")).get("image")).get("docker-manifest-digest"))


def _statement(envelope: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    try:
        return maps([parsed(b64decode(text(envelope.get("payload"))))])
    except ValueError:
        return ()


def _subject(statement: Mapping[str, Any]) -> str:
    return next((text(map_(one.get("digest")).get("sha256")) for one in maps(statement.get("subject"))), "")
