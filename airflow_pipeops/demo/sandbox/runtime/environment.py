"""A container's environment: values, references and ``$(VAR)``, as Kubernetes resolves them. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")

#: (kind, name) -> live ConfigMap or Secret of the pod's namespace, or None.
Lookup = Callable[[str, str], "dict[str, Any] | None"]


class ConfigMissing(Exception):
    """A ConfigMap, Secret or key that the container needs is not there; the pod waits for it."""


def expand(text: str, env: dict[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; ``$$`` is a dollar, and an unknown name stays as it is written."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else env.get(name, match.group(0))

    return _REFERENCE.sub(value, text)


def resolve(
    container: dict[str, Any], pod: dict[str, Any], lookup: Lookup, forced: dict[str, str]
) -> dict[str, str]:
    """Return the variables that a container's manifest sets.

    :param forced: variables whose value the cluster decides, whatever the manifest says (HOST, PORT).
    :return: variable -> value.
    :raises ConfigMissing: something referred to is missing and not optional.
    """
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if ref := source.get(field):
                found = _data(lookup, kind, ref)
                env.update({source.get("prefix", "") + k: v for k, v in found.items()})
    env.update(forced)
    for item in container.get("env") or []:
        name = item["name"]
        if name in forced:
            continue
        if "valueFrom" in item:
            value = _value_from(item["valueFrom"] or {}, pod, lookup)
            if value is not None:
                env[name] = value
        else:
            env[name] = expand(item.get("value") or "", env)
    return env


def _data(lookup: Lookup, kind: str, ref: dict[str, Any]) -> dict[str, str]:
    live = lookup(kind, ref.get("name", ""))
    if live is None:
        if ref.get("optional"):
            return {}
        raise ConfigMissing(f'{kind.lower()} "{ref.get("name", "")}" not found')
    data = dict(live.get("data") or {})
    if kind == "Secret":
        try:
            data = {k: base64.b64decode(v, validate=True).decode() for k, v in data.items()}
        except (binascii.Error, UnicodeDecodeError):
            # The message must not show the value.
            raise ConfigMissing(f'secret "{ref["name"]}" holds data that is not base64 of text') from None
        data.update(live.get("stringData") or {})
    return data


def _value_from(source: dict[str, Any], pod: dict[str, Any], lookup: Lookup) -> str | None:
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if ref := source.get(field):
            data = _data(lookup, kind, ref)
            if ref.get("key") in data:
                return data[ref["key"]]
            if ref.get("optional"):
                return None
            raise ConfigMissing(f"couldn't find key {ref.get('key')} in {kind} {ref.get('name')}")
    if ref := source.get("fieldRef"):
        return _field(ref.get("fieldPath", ""), pod)
    raise ConfigMissing(f"the sandbox knows no valueFrom.{next(iter(source), '')}")


def _field(path: str, pod: dict[str, Any]) -> str:
    match = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if match:
        return str(pod["metadata"].get(match.group(1), {}).get(match.group(2), ""))
    known = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"].get("namespace", ""),
        "metadata.uid": pod["metadata"].get("uid", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "spec.nodeName": "sandbox",
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
    }
    if path not in known:
        raise ConfigMissing(f"the sandbox knows no field {path!r}")
    return str(known[path])
