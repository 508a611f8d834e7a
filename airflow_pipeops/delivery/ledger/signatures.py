"""Ed25519 keys, and what they sign: the signed notes of C2SP and the envelopes of DSSE."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.documents import maps, text
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_NAME = re.compile(r"[^\s+]{1,200}")
#: Ed25519 among the algorithms of signed notes.
_ED25519 = b"\x01"
_SIGNATURE = re.compile(r"— (\S+) (\S+)")
#: What a statement of in-toto is called in an envelope.
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with.

    :param name: of the key.
    :param raw: its 32 bytes.
    """

    name: str
    raw: bytes

    @property
    def hint(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4]

    @property
    def id(self) -> str:
        """The name of the key in an envelope."""
        return f"{self.name}+{self.hint.hex()}"

    def __str__(self) -> str:
        return f"{self.id}+{b64encode(_ED25519 + self.raw).decode()}"

    @classmethod
    def read(cls, given: str) -> PublicKey:
        """Read a key as :class:`str` writes it: name, hint and bytes, as the tools of transparency logs do.

        :param given: the text.
        :return: the key.
        :raises InvalidInput: if it is none.
        """
        name, _, rest = given.strip().partition("+")
        hint, _, encoded = rest.partition("+")
        try:
            raw = b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        found = cls(name, raw[1:])
        if len(raw) != 33 or raw[:1] != _ED25519 or hint != found.hint.hex():
            raise InvalidInput(
                "a public key cannot be read",
                field="key",
                value=given[:200],
                remedy="Give it as name+hint+key, as the Test button of the connection shows it.",
            )
        return found

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether the signature of a message was made with this key.

        :param signature: 64 bytes.
        :param message: that was signed.
        :return: whether it was.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A private key and its name.

    :param name: of the key, without spaces and plus signs; a host name is usual.
    :param key: an Ed25519 key.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = matching(
            "login", name, _NAME, "the name of a key", "Use a host name, without spaces and plus signs."
        )
        self._key = key

    @classmethod
    def read(cls, name: str, pem: str) -> Signer:
        """Read a key.

        :param name: of the key.
        :param pem: PEM or OpenSSH, not encrypted.
        :return: the signer.
        :raises InvalidInput: if it is no Ed25519 key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

        load = load_ssh_private_key if "OPENSSH" in pem else load_pem_private_key
        try:
            key = load(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _no_key(f"cannot be read: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(f"is no Ed25519 key, but {type(key).__name__.removesuffix('PrivateKey')}")
        return cls(name, key)

    @property
    def public(self) -> PublicKey:
        """The key that others check with."""
        return PublicKey(self.name, self._key.public_key().public_bytes_raw())

    def note(self, message: str) -> str:
        """Sign a text, as a note.

        :param message: that ends with a line break.
        :return: the text, an empty line, and the signature.
        """
        signature = b64encode(self.public.hint + self._key.sign(message.encode())).decode()
        return f"{message}\n— {self.name} {signature}\n"

    def envelope(self, payload: bytes, payload_type: str = PAYLOAD_TYPE) -> dict[str, Any]:
        """Sign a statement, in an envelope of DSSE.

        :param payload: the statement.
        :param payload_type: what it is.
        :return: the envelope, as JSON.
        """
        signature = b64encode(self._key.sign(_encoded(payload_type, payload))).decode()
        return {
            "payload": b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": self.public.id, "sig": signature}],
        }


def signed_by(note: str, keys: Iterable[PublicKey]) -> tuple[str, list[str]]:
    """Read a note.

    :param note: the text, an empty line, and signatures.
    :param keys: that are known.
    :return: the text, and the names of the known keys that have signed it.
    """
    message, _, signatures = note.rpartition("\n\n")
    if not message:
        return note, []
    message += "\n"
    names = []
    for name, encoded in _SIGNATURE.findall(signatures):
        try:
            raw = b64decode(encoded, validate=True)
        except ValueError:
            continue
        for key in keys:
            if (key.name, key.hint) == (name, raw[:4]) and key.verifies(raw[4:], message.encode()):
                names.append(name)
    return message, names


def opened(envelope: Mapping[str, Any], key: PublicKey) -> bytes:
    """Open an envelope.

    :param envelope: as JSON.
    :param key: that must have signed it.
    :return: the payload.
    :raises InvalidInput: if it has not.
    """
    try:
        payload = b64decode(text(envelope.get("payload")), validate=True)
        signatures = [
            b64decode(text(item.get("sig")), validate=True) for item in maps(envelope.get("signatures"))
        ]
    except ValueError:
        payload, signatures = b"", []
    message = _encoded(text(envelope.get("payloadType")), payload)
    if not any(key.verifies(signature, message) for signature in signatures):
        raise InvalidInput(f"an envelope is not signed by {key.id}", field="signatures")
    return payload


def _encoded(payload_type: str, payload: bytes) -> bytes:
    """Return what DSSE signs (its PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _no_key(said: str) -> InvalidInput:
    return InvalidInput(
        f"the private_key of the signing key {said}",
        field="private_key",
        remedy="Make one by: openssl genpkey -algorithm ed25519",
    )
