"""Sign an image, and demand that one is signed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import given, one_given, positive, still_given
from airflow_pipeops.base.connections import read
from airflow_pipeops.delivery.operators import DeliveryOperator, idempotency_key, no_retry
from airflow_pipeops.exceptions import GateFailed, InvalidInput
from airflow_pipeops.redaction import remember

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.hook import RegistrySettings
    from airflow_pipeops.build.process import Command, Finished
    from airflow_pipeops.build.signatures import Identity


class SignatureOperator(DeliveryOperator):
    """What looks at an image in its registry, and calls cosign.

    :param image: name of the image with its digest, such as the ``reference`` that :class:`BuildImageOperator` returned;
        templated.
    :param registry_conn_id: connection of its registry; by default what ``[pipeops] registry_conn_id`` says. Templated.
    :param transparency_log: whether Sigstore's public log takes part.
    :param cosign: name or path of the program.
    :param timeout: for each call of cosign.
    """

    template_fields: Sequence[str] = ("image", "registry_conn_id", *DeliveryOperator.template_fields)

    def __init__(
        self,
        *,
        image: str,
        registry_conn_id: str | None = None,
        transparency_log: bool = True,
        cosign: str = "cosign",
        timeout: timedelta = timedelta(minutes=5),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.registry_conn_id = registry_conn_id
        self.transparency_log = transparency_log
        self.cosign = cosign
        self.timeout = positive("timeout", timeout)
        self._command: Command | None = None

    def on_kill(self) -> None:
        """End what runs."""
        if self._command is not None:
            self._command.kill()

    def _run(self, command: Command) -> Finished:
        self._command = command
        try:
            return command.run()
        finally:
            self._command = None

    def _settings(self, host: str) -> RegistrySettings:
        from airflow_pipeops.base import configuration as settings
        from airflow_pipeops.build.hook import RegistryHook, RegistrySettings

        conn_id = self.registry_conn_id or settings.registry()
        if not conn_id:
            return RegistrySettings(host)
        found = RegistryHook(conn_id).settings()
        if found.host != host:
            raise InvalidInput(
                f"the image is in {host}, and connection {conn_id!r} is of {found.host}",
                field="registry_conn_id",
                value=conn_id,
                remedy="Name the connection of the image's registry.",
            )
        return found


class VerifyImageOperator(SignatureOperator):
    """Demand that an image is what its digest says, and that somebody has signed it; else the gate is shut.

    The digest is always checked: the registry's answer is hashed. With ``key``, or ``certificate_identity`` and
    ``certificate_issuer``, a signature by that identity is demanded, too; or, with ``attestations``, statements about the
    image that it has signed, such as its provenance.

    :param tag: a tag of the image's repository that must mean this digest; templated.
    :param key: public key of who must have signed: a path, or a URI of a key service that cosign knows; templated.
    :param certificate_identity: the identity in a certificate of Sigstore, exactly, such as the address of a
        workflow; templated.
    :param certificate_issuer: who vouched for it, the URL of an OpenID provider; templated.
    :param attestations: types of statements that must be there, signed by the same, such as ``slsaprovenance1`` or
        ``spdxjson``.
    :return: ``{image, digest, verified, by, record_id}``; ``verified`` names what was: ``digest``, ``tag``, ``signature``,
        or the type of an attestation.
    :raises GateFailed: if the digest, the tag, a signature or a statement is not as demanded.
    :raises InvalidInput: for a tag where a digest is needed, and where cosign is needed and not installed.
    """

    template_fields: Sequence[str] = (
        "tag",
        "key",
        "certificate_identity",
        "certificate_issuer",
        *SignatureOperator.template_fields,
    )
    emits = ("validation",)
    ui_color = "#ede7f6"

    def __init__(
        self,
        *,
        tag: str = "",
        key: str = "",
        certificate_identity: str = "",
        certificate_issuer: str = "",
        attestations: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tag = tag
        self.key = key
        self.certificate_identity = certificate_identity
        self.certificate_issuer = certificate_issuer
        self.attestations = attestations
        self._demanded = given(
            tag=tag, key=key, certificate_identity=certificate_identity, certificate_issuer=certificate_issuer
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the image's manifest, compare, have the signatures verified, record."""
        from airflow_pipeops.build.process import scratch
        from airflow_pipeops.build.references import by_digest
        from airflow_pipeops.build.signatures import Cosign

        with no_retry():
            still_given(self, self._demanded)
            image = by_digest(self.image)
            identity = self._identity()
            settings = self._settings(image.host)
            verified = ["digest"]
            with settings.client() as registry:
                registry.manifest(image.repository, image.digest)
                if self.tag:
                    # Not by the header of an answer without a body, which nobody can check.
                    there = registry.manifest(image.repository, self.tag).digest
                    if there != image.digest:
                        raise GateFailed(
                            f"{image.name}:{self.tag} is {there}, and not {image.digest}",
                            remedy="Promote what the tag means now, or set the tag anew.",
                        )
                    verified.append("tag")
            if identity is not None:
                with scratch(f"verify {idempotency_key(context)}") as folder:
                    cosign = Cosign(self.cosign, self._run, settings, folder, self.timeout)
                    for wanted in self.attestations or ("",):
                        cosign.verify(image, identity, wanted)
                        verified.append(wanted or "signature")
            by = identity.words if identity else ""
            facts: dict[str, Any] = {
                "image": image.name,
                "digest": image.digest,
                "verified": verified,
                "by": by,
            }
            record_id = self.emit(context, "validation", {"subject": "image", "passed": True, **facts})
        return {**facts, "record_id": record_id}

    def _identity(self) -> Identity | None:
        from airflow_pipeops.build.signatures import Identity

        if bool(self.certificate_identity) != bool(self.certificate_issuer):
            raise InvalidInput(
                "certificate_identity and certificate_issuer belong together",
                field="certificate_issuer" if self.certificate_identity else "certificate_identity",
                remedy="Give both: an identity is worth as much as who vouches for it.",
            )
        if self.key and self.certificate_identity:
            raise InvalidInput(
                "key and certificate_identity are both given",
                field="key",
                remedy="Give one: who must have signed.",
            )
        if self.key or self.certificate_identity:
            return Identity(
                self.key, self.certificate_identity, self.certificate_issuer, self.transparency_log
            )
        if self.attestations:
            raise InvalidInput(
                "attestations are demanded of nobody",
                field="attestations",
                value=list(self.attestations),
                remedy="Say in key, or certificate_identity and certificate_issuer, who must have signed them.",
            )
        return None


class SignImageOperator(SignatureOperator):
    """Sign an image in its registry by cosign.

    :param signing_conn_id: a connection whose password is that of the key, and whose extra has ``private_key`` (the key as
        ``cosign generate-key-pair`` writes it) or ``key`` (a path of it, or a URI of a key service).
    :return: ``{image, digest}``
    """

    ui_color = "#ede7f6"

    def __init__(self, *, signing_conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signing_conn_id = signing_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Sign; a second signature by the same key changes nothing."""
        from airflow_pipeops.build.process import scratch
        from airflow_pipeops.build.references import by_digest
        from airflow_pipeops.build.signatures import Cosign

        with no_retry(), scratch(f"sign {idempotency_key(context)}") as folder:
            image = by_digest(self.image)
            settings = self._settings(image.host)
            connection = read(self.signing_conn_id)
            key, content = (str(connection.extra_dejson.get(name) or "") for name in ("key", "private_key"))
            one_given(
                f"connection {self.signing_conn_id!r} does not name one signing key",
                "Set private_key or key in its extra.",
                private_key=content,
                key=key,
            )
            cosign = Cosign(self.cosign, self._run, settings, folder, self.timeout)
            if content:
                remember(content)
                key = str(folder / "signing.key")
                with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
                    file.write(content)
            password = connection.password or ""
            remember(password)
            with settings.client() as registry:
                registry.manifest(image.repository, image.digest)
            cosign.sign(image, key, password, transparency_log=self.transparency_log)
        return {"image": image.name, "digest": image.digest}
