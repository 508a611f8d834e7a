"""A private key, as people paste it into a form: rebuilt, or refused by what it is. Pure."""

from __future__ import annotations

import binascii
import re
import textwrap
from base64 import b64decode

from airflow_pipeops.exceptions import InvalidInput

_PEM = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----(?P<body>.*?)-----END (?P=kind)-----", re.S
)
#: How older PEM keys say that they are encrypted; the length of the salt ends it where the line break is lost.
_ENCRYPTED = re.compile(
    r"\s*Proc-Type:\s*4,ENCRYPTED\s*DEK-Info:\s*(?P<cipher>AES-\d+-CBC,[0-9A-Fa-f]{32}|DES-[A-Z0-9-]+,[0-9A-Fa-f]{16})"
)
_MAGIC = b"openssh-key-v1\0"
_REMEDY = "Paste the whole private key, from its line BEGIN to its line END, or the Base64 of its file."


def private_key(field: str, text: str, connection: str = "the Git connection") -> str:
    """Read a private key; one line without its line breaks will do, and so will the Base64 of the file.

    :param field: of the connection, for messages.
    :param text: what was pasted.
    :param connection: how messages call it.
    :return: the key, with the line breaks that OpenSSH wants; empty for an empty text.
    :raises InvalidInput: for what is no private key, naming what it is.
    """
    pasted = text.strip().strip("\"'").replace("\\r", "").replace("\\n", "\n").strip()
    if not pasted:
        return ""
    if "-----BEGIN" not in pasted:
        pasted = _unpacked(pasted)
    found = _PEM.search(pasted)
    if found is None:
        raise InvalidInput(f"the {field} of {connection} {_what(pasted)}", field=field, remedy=_REMEDY)
    head, body = "", found["body"]
    if encrypted := _ENCRYPTED.match(body):
        head = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: {encrypted['cipher']}\n\n"
        body = body[encrypted.end() :]
    body = "".join(body.split())
    if not body or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", body):
        raise InvalidInput(
            f"the {field} of {connection} holds characters that no key has",
            field=field,
            remedy=_REMEDY,
        )
    lines = "\n".join(textwrap.wrap(body, 64))
    return f"-----BEGIN {found['kind']}-----\n{head}{lines}\n-----END {found['kind']}-----\n"


def is_encrypted(key: str) -> bool:
    """Whether a key that :func:`private_key` returned needs a passphrase."""
    if "ENCRYPTED" in key.partition("\n\n")[0].partition("-----\n")[0] or "Proc-Type: 4,ENCRYPTED" in key:
        return True
    found = _PEM.search(key)
    try:
        raw = b64decode("".join(found["body"].split())) if found else b""
    except (ValueError, binascii.Error):
        return False
    if not raw.startswith(_MAGIC):
        return False
    length = int.from_bytes(raw[len(_MAGIC) : len(_MAGIC) + 4], "big")
    return raw[len(_MAGIC) + 4 :][:length] != b"none"


def _unpacked(text: str) -> str:
    try:
        inner = b64decode("".join(text.split()), validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        return text
    return inner if "-----BEGIN" in inner else text


def _what(text: str) -> str:
    if text.startswith("PuTTY-User-Key-File"):
        return "is a key of PuTTY; puttygen exports it as an OpenSSH key"
    if re.match(r"(ssh|ecdsa|sk)-\S+ ", text) or "PUBLIC KEY-----" in text:
        return "is a public key, and not the private one"
    if re.fullmatch(r"[/~.]\S*", text):
        return "is the path of a file, and not the key itself"
    if "-----BEGIN" in text and "PRIVATE KEY-----" in text:
        return "is cut off: its end is missing"
    return "is no private key"
