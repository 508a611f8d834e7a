"""Which live objects differ from the desired state, as events and records of kind *differences* say it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: How many resources a payload names, and how many fields of each.
LIMIT = 20
#: How an object differs.
Change = Literal["modified", "missing", "extra"]


@dataclass(frozen=True)
class Difference:
    """One object that differs.

    :param group: of its API; empty for the core.
    :param kind: as a manifest says it.
    :param namespace: empty for an object of the whole cluster.
    :param name: its name.
    :param change: ``modified``, ``missing`` (desired and not live) or ``extra`` (live and not desired).
    :param fields: paths of the fields that differ; never their values, which may be secret.
    :param digest: of the live value.
    """

    group: str
    kind: str
    namespace: str
    name: str
    change: Change
    fields: tuple[str, ...] = ()
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what a payload says about it."""
        return {
            "group": self.group,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "change": self.change,
            "fields": list(self.fields[:LIMIT]),
        }


def fingerprint(found: Iterable[Difference]) -> str:
    """Return one digest of which objects differ and what their live values are; empty for none."""
    parts = [[one.group, one.kind, one.namespace, one.name, one.change, one.digest] for one in found]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() if parts else ""


def told(found: Sequence[Difference]) -> dict[str, Any]:
    """Return what a payload says about all of them: ``{resources, more, fingerprint}``."""
    return {
        "resources": [one.to_json() for one in found[:LIMIT]],
        "more": max(0, len(found) - LIMIT),
        "fingerprint": fingerprint(found),
    }
