"""Secrets as Go clients send them: in Kubernetes' own binary form, which is protobuf behind four bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from tests.kubernetes.objects import Object

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"


def secret(raw: bytes) -> Object:
    """Read a Secret.

    :raises ValueError: for anything else.
    """
    if not raw.startswith(_MAGIC):
        raise ValueError("no protobuf of Kubernetes")
    whole = dict(_fields(raw[len(_MAGIC) :]))
    about = dict(_fields(whole[1]))
    if about.get(2) != b"Secret":
        raise ValueError(f"only Secrets are read, and not {about.get(2)!r}")
    body: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {}}
    for number, value in _fields(whole[2]):
        if number == 1:
            body["metadata"] = _metadata(value)
        elif number == 2:
            entry = dict(_fields(value))
            body["data"][entry[1].decode()] = base64.b64encode(entry.get(2, b"")).decode()
        elif number == 3:
            body["type"] = value.decode()
    return body


def _metadata(raw: bytes) -> Object:
    found: Object = {}
    texts = {1: "name", 2: "generateName", 3: "namespace", 5: "uid", 6: "resourceVersion"}
    for number, value in _fields(raw):
        if number in texts and value:
            found[texts[number]] = value.decode()
        elif number in (11, 12):
            entry = dict(_fields(value))
            name = "labels" if number == 11 else "annotations"
            found.setdefault(name, {})[entry[1].decode()] = entry.get(2, b"").decode()
    return found


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields that hold bytes; numbers are passed over."""
    at = 0
    while at < len(raw):
        key, at = _number(raw, at)
        number, form = key >> 3, key & 7
        if form == 0:
            _, at = _number(raw, at)
        elif form == 2:
            size, at = _number(raw, at)
            yield number, raw[at : at + size]
            at += size
        else:
            raise ValueError(f"a field of form {form}")


def _number(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
