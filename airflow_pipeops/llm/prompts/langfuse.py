"""Langfuse as a place of prompts, by its public API: versions, and labels that name one of them each.

Whoever may edit the project may make a version and move a label; what a label shows is compared with what was released.
Langfuse's own clients keep a prompt for 60 seconds.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.documents import map_, maps, parsed, text, whole
from airflow_pipeops.base.http import asked, base_url, trusting
from airflow_pipeops.base.retries import retried
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.llm.prompts.labels import LABEL
from airflow_pipeops.llm.prompts.projections import Named
from airflow_pipeops.llm.prompts.prompt import Prompt
from airflow_pipeops.redaction import excerpt, remember

_API = "/api/public/v2/prompts"
_TIMEOUT = 20.0
_ATTEMPTS = 4
#: Versions among which one of a digest is looked for, from the newest: the API finds none by a tag.
_LOOKED = 50


class _Absent(NotFound):
    """Langfuse itself says that there is no such prompt, version or label."""


@dataclass(frozen=True)
class LangfusePrompts(JsonForm):
    """Langfuse's prompts: applications ask for a name and a label.

    :param langfuse_conn_id: connection of type ``http``: the URL, the public key as login, the secret key as password.
    """

    kind: ClassVar[str] = "langfuse"
    cached: ClassVar[int] = 60

    langfuse_conn_id: str = "langfuse_default"

    def opened(self) -> LangfusePlace:
        """Open the project."""
        from airflow_pipeops.base.connections import read

        return self._place(read(self.langfuse_conn_id, "http"))

    async def aopened(self) -> LangfusePlace:
        """Open it where an event loop runs."""
        from airflow_pipeops.base.connections import aread

        return self._place(await aread(self.langfuse_conn_id, "http"))

    def called(self, name: str, label: str) -> str:
        """Return name and label."""
        return f"langfuse:{name}@{label}"

    def _place(self, connection: Any) -> LangfusePlace:
        from airflow_pipeops.base.connections import server_url

        if not connection.login or not connection.password:
            raise InvalidInput(
                f"connection {self.langfuse_conn_id!r} has no keys of a Langfuse project",
                field=f"{self.langfuse_conn_id}.password",
                remedy="Put the public key into the login and the secret key into the password.",
            )
        url = base_url(server_url(connection), field=f"{self.langfuse_conn_id}.host", of="Langfuse")
        return LangfusePlace(
            url, connection.login, connection.password, verify=trusting(connection.extra_dejson)
        )


class LangfusePlace:
    """An open project.

    :param url: of the server, without a slash at its end.
    :param public_key: of the project.
    :param secret_key: of the project.
    :param verify: what the server's certificate is checked with.
    :param timeout: seconds for one call, the whole of the answer included.
    """

    def __init__(
        self, url: str, public_key: str, secret_key: str, *, verify: Any = True, timeout: float = _TIMEOUT
    ) -> None:
        remember(secret_key)
        self._url, self._verify, self._timeout = url, verify, timeout
        basic = base64.b64encode(f"{public_key}:{secret_key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}", "Accept": "application/json"}

    def release(self, prompt: Prompt, label: str, commit: str) -> Named:
        """Make a version once, give it the label, and read that back; see :class:`Place`.

        A call whose answer was lost is not made again: the place is looked at anew, from the beginning.

        :return: what the label shows, read back.
        """
        matching("label", label, LABEL, "a label", "Use a-z, 0-9, '-' and '_', and not latest.")
        return retried(lambda: self._released(prompt, label, commit), _ATTEMPTS)

    def named(self, name: str, label: str) -> Named | None:
        """Read what the label names; see :class:`Place`."""
        return retried(lambda: self._read(name, label=label), _ATTEMPTS)

    def has(self, name: str, sha256: str) -> bool:
        """Whether one of the newest versions has the digest; see :class:`Place`."""
        return retried(lambda: self._find(name, sha256), _ATTEMPTS) is not None

    def _released(self, prompt: Prompt, label: str, commit: str) -> Named:
        shown = self._read(prompt.name, label=label)
        if shown is not None and shown.sha256 == prompt.sha256:
            return shown
        found = self._find(prompt.name, prompt.sha256)
        if found is None:
            made = self._asked("POST", "", f"prompt {prompt.name!r}", json=payload(prompt, commit))
            version = str(whole(made.get("version")) or "")
        else:
            version = found.version
        path = f"/{quote(prompt.name, safe='')}/versions/{version}"
        self._asked("PATCH", path, f"label {label!r}", json={"newLabels": [label]})
        shown = self._read(prompt.name, label=label)
        if shown is None or shown.sha256 != prompt.sha256:
            raise Conflict(
                f"Langfuse shows {'nothing' if shown is None else f'version {shown.version}'} of {prompt.name!r} as"
                f" {label!r}, and not version {version}{f': {shown.why}' if shown and shown.why else ''}"
            )
        return shown

    def _find(self, name: str, sha256: str) -> Named | None:
        listed = self._asked("GET", "", f"versions of {name!r}", params={"name": name, "limit": "100"})
        known = [one.get("versions") for one in maps(listed.get("data")) if one.get("name") == name]
        versions = [one for one in (known[0] if known and isinstance(known[0], list) else []) if whole(one)]
        for version in sorted(versions, reverse=True)[:_LOOKED]:
            found = self._read(name, version=str(version))
            if found is not None and found.sha256 == sha256:
                return found
        return None

    def _read(self, name: str, **asked_for: str) -> Named | None:
        try:
            return _named(
                self._asked("GET", f"/{quote(name, safe='')}", f"prompt {name!r}", params=asked_for)
            )
        except _Absent:
            return None

    def _asked(self, method: str, path: str, about: str, **sent: Any) -> dict[str, Any]:
        return asked(
            method, self._url, _API + path, about=about, error_of=_error_of, headers=self._headers,
            timeout=self._timeout, verify=self._verify, **sent,
        )  # fmt: skip


def payload(prompt: Prompt, commit: str) -> dict[str, Any]:
    """Return what is sent to make a version. Pure.

    :param prompt: the prompt.
    :param commit: of the desired state that wants it.
    :return: the body of the call; without labels, so that nobody reads it yet.
    """
    chat = not isinstance(prompt.template, str)
    schema = {} if prompt.output_schema is None else {"output_schema": dict(prompt.output_schema)}
    tools = {"tools": [dict(tool) for tool in prompt.tools]} if prompt.tools else {}
    return {
        "type": "chat" if chat else "text",
        "name": prompt.name,
        "prompt": [dict(vars(one)) for one in prompt.messages] if chat else prompt.template,
        "config": {
            **prompt.parameters,
            **tools,
            **schema,
            "model": prompt.model,
            "pipeops": {"sha256": prompt.sha256, "commit": commit, "prompt": prompt.canonical},
        },
        "labels": [],
        "tags": ["pipeops"],
        "commitMessage": f"{prompt.sha256[:12]} by {commit[:12]}",
    }


def _named(answer: Mapping[str, Any]) -> Named:
    version, ours = str(answer.get("version") or ""), map_(map_(answer.get("config")).get("pipeops"))
    commit = text(ours.get("commit"))
    if not ours:
        return Named(version, "", why=f"version {version} was not released from Git")
    try:
        prompt = Prompt.read(text(ours.get("prompt")), "prompt.json")
    except InvalidInput as error:
        return Named(version, "", commit, f"the config of version {version} was changed: {error.message}")
    wanted = payload(prompt, commit)
    said = answer.get("prompt")
    if isinstance(said, list):  # Langfuse adds what kind of message it is
        said = [{"role": one.get("role"), "content": one.get("content")} for one in maps(said)]
    shown = {"type": answer.get("type"), "prompt": said, "config": answer.get("config")}
    if changed := [name for name, value in shown.items() if value != wanted[name]]:
        return Named(
            version, "", commit, f"{', '.join(changed)} of version {version} is not what was released"
        )
    return Named(version, prompt.sha256, commit)


def _error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Turn an answer other than success into an error of ours."""
    try:
        body = map_(parsed(content))
    except ValueError:
        body = {}
    said = f"Langfuse at {url} refused {about} (HTTP {status}): {excerpt(text(body.get('message')) or content, 200)}"
    if 300 <= status < 400:
        return InvalidInput(
            f"{url} redirects elsewhere (HTTP {status})",
            field="host",
            remedy="Give the final URL, most often https.",
        )
    if status in (401, 403):
        return AccessDenied(
            said, remedy="Check the keys of the connection, and that they are of this project."
        )
    if status == 404:
        return (
            _Absent(said) if body else NotFound(said, remedy="Is the URL, with its path, that of Langfuse?")
        )
    if status == 429 or status >= 500:
        return Unreachable(said)
    return SystemFailure(said)
