"""Who may do what: bearer tokens kept in the state folder, and Argo CD's policy lines."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from airflow_pipeops.exceptions import InvalidInput

ROLES = ("admin", "deployer", "viewer")

_DEFAULT_POLICY = """\
p, role:admin, *, *, *, allow
p, role:deployer, applications, get, */*, allow
p, role:deployer, applications, sync, */*, allow
p, role:deployer, applications, override, */*, allow
p, role:deployer, applications, create, */*, allow
p, role:deployer, applications, update, */*, allow
p, role:deployer, applications, delete, */*, allow
p, role:deployer, logs, get, */*, allow
p, role:viewer, applications, get, */*, allow
"""


class Rule(NamedTuple):
    """One line of the policy."""

    role: str
    resource: str
    action: str
    target: str
    allow: bool


class Access:
    """The tokens and the policy.

    Both are written at the first start: ``tokens.json`` (mode 0600) holds one token for each role, and
    ``policy.csv`` holds lines as Argo CD writes them (``p, role:viewer, applications, get, */*, allow``),
    to be edited by whoever wants to confine a role to ``project/app``.

    :param state: the state folder.
    """

    def __init__(self, state: Path) -> None:
        self.tokens = _load_tokens(state / "tokens.json")
        self._rules = _load_policy(state / "policy.csv")

    def role(self, token: str) -> str | None:
        """Return the role that a token belongs to, or ``None``."""
        found = None
        for role, known in self.tokens.items():
            # All are compared, in constant time each.
            if hmac.compare_digest(known.encode(), token.encode()):
                found = role
        return found

    def may(self, role: str, resource: str, action: str, target: str) -> bool:
        """Say whether ``role`` may do ``action`` on ``target`` (``project/app``); a deny wins over an allow."""
        matching = [
            rule.allow
            for rule in self._rules
            if rule.role == f"role:{role}"
            and fnmatchcase(resource, rule.resource)
            and fnmatchcase(action, rule.action)
            and fnmatchcase(target, rule.target)
        ]
        return bool(matching) and all(matching)


def _load_tokens(path: Path) -> dict[str, str]:
    if not path.exists():
        tokens = {role: f"sandbox-{role}-{secrets.token_urlsafe(24)}" for role in ROLES}
        draft = path.with_suffix(".new")
        # Created private and then renamed: never readable by others, never half-written.
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(tokens, stream, indent=2)
        draft.rename(path)
        return tokens
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(tokens[role], str) and tokens[role] for role in ROLES):
            raise ValueError("a token is empty")
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path} does not hold a token for each of {', '.join(ROLES)}",
            field="tokens.json",
            remedy="Delete the file: the next start writes a new one.",
        ) from error
    return {role: tokens[role] for role in ROLES}


def _load_policy(path: Path) -> list[Rule]:
    if not path.exists():
        path.write_text(_DEFAULT_POLICY, encoding="utf-8")
    rules = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 6 or parts[0] != "p" or parts[5] not in ("allow", "deny"):
            raise InvalidInput(
                f"{path}, line {number}: {line!r} is not a policy line",
                field="policy.csv",
                value=line,
                remedy="Write: p, role:NAME, RESOURCE, ACTION, PROJECT/APP, allow|deny",
            )
        rules.append(Rule(parts[1], parts[2], parts[3], parts[4], parts[5] == "allow"))
    return rules
