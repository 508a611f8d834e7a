"""Take secrets out of texts, before they reach a log, an error or an event.

Every error of ours passes through here when it is made (:class:`~airflow_pipeops.exceptions.PipeOpsError`), so whoever
raises one need not think of it; so does every record, result, event
and kept text (:func:`cleaned`). Two things are taken out: what looks like a secret, and the secrets that this process has
used, in every form in which a server may send them back.
"""

from __future__ import annotations

import binascii
import contextlib
import html
import json
import re
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
#: Not looked for, since plain words would go out of every text: what is shorter, and shorter words of letters alone.
SHORTEST, SHORTEST_WORD = 5, 8
#: Nor in values, which a program reads, is what is shorter than this.
SHORTEST_IN_VALUES = 8
#: How many secrets are remembered; a triggerer sees a new token of its pod every hour. The oldest go first.
MOST = 500

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # https://user:password@host and https://token@host
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@]+@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)\b(bearer)\s+[a-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    # These two are also words of plain English: what follows must not be one.
    (re.compile(r"(?i)\b(basic|token)\s+(?=\S*[0-9+/=_])[a-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    # name=value, name: value, "name": "value"; also in a query string. What stands before the word stays as it is, so it is
    # not looked at: a long word in a controller's message would cost the square of its length.
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?[\"']?)"
            r"(\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&\"'}\])]+)"
        ),
        rf"\1\2{MASK}",
    ),
)

#: What is a secret wherever it stands, also within a value that a program reads.
_PLAIN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@:]*:[^\s/@]+@"), rf"\1{MASK}@"),
    # JSON web tokens and the tokens of the large forges and clouds, wherever they stand. A long word without dots is looked
    # at once, and not from each of its hyphens on. A token's first part is no prefix of the second, though both begin alike.
    (
        re.compile(r"(?<![\w-])(?=[\w-]*\.[\w-]{5,}\.)((?:[\w-]*?[^\w])??)eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"),
        rf"\1{MASK}",
    ),
    (
        re.compile(
            r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}|xox[abpr]-[\w-]{10,}|AKIA[0-9A-Z]{16})"
        ),
        MASK,
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MASK),
)


_remembered: dict[str, frozenset[str]] = {}
_forms: tuple[str, ...] = ()
_lock = threading.Lock()


def remember(*secrets: str) -> None:
    """Let :func:`redacted` take these secrets out of every text from now on.

    :param secrets: passwords, tokens, passphrases and keys that this process hands to other systems.
    """
    global _forms
    new = [one for secret in secrets if _is_telling(one := secret.strip()) and one not in _remembered]
    if not new:
        return
    with _lock:
        for secret in new:
            _remembered[secret] = forms(secret)
        for secret in list(_remembered)[:-MOST]:
            del _remembered[secret]
        _forms = tuple(sorted(frozenset().union(*_remembered.values()), key=len, reverse=True))


def _is_telling(secret: str) -> bool:
    return len(secret) >= (SHORTEST_WORD if secret.isalpha() else SHORTEST)


def remember_header(value: str) -> None:
    """Remember what an ``Authorization`` header holds; of a basic one, also the password inside.

    :param value: the header's value; empty for none.
    """
    scheme, _, secret = value.strip().partition(" ")
    secret = secret.strip() or scheme
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError, binascii.Error):
            remember(b64decode(secret).decode("utf-8", "replace").partition(":")[2])
    remember(secret)


def forms(secret: str) -> frozenset[str]:
    """Return the texts that give a secret away: itself, and as URLs, JSON, HTML, hex and Base64 have it.

    Within a longer Base64 text, a secret begins at any of three positions in a group of four characters. The characters
    that its neighbours have a share in are left out: what remains is the same whatever stands around it.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    found = {
        secret, quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace"),
        json.dumps(secret)[1:-1], html.escape(secret), raw.hex(),
    }  # fmt: skip
    for before in range(3):
        encoded = b64encode(bytes(before) + raw).decode()
        shared = (0, 3, 2)[(before + len(raw)) % 3]
        inner = encoded[(0, 2, 3)[before] : len(encoded) - shared]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return frozenset(form for form in found if len(form) >= SHORTEST)


def redacted(text: str, also: Callable[[str], str] | None = None) -> str:
    """Take out of a text what is or looks like a secret.

    :param also: a further masker, for example Airflow's own, which knows the secrets of other connections.
    :return: the text without it.
    """
    for form in _forms:
        if form in text:
            text = text.replace(form, MASK)
    for pattern, replacement in (*_RULES, *_PLAIN):
        text = pattern.sub(replacement, text)
    return also(text) if also else text


def used_in(text: str) -> Iterator[tuple[int, int]]:
    """Find the secrets that this process has used, in every form.

    :yield: where one begins and ends.
    """
    for form in _forms:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + len(form))


def secrets_in(text: str) -> Iterator[tuple[int, int]]:
    """Find what :func:`redacted` would take out, for whoever puts something else in its place.

    :yield: where a secret begins and ends; one may lie within another.
    """
    yield from used_in(text)
    for pattern, replacement in (*_RULES, *_PLAIN):
        for found in pattern.finditer(text):
            before, _, after = found.expand(replacement).partition(MASK)
            yield found.start() + len(before), found.end() - len(after)


def cleaned(value: Any, deep: int = 100) -> Any:
    """Take secrets out of JSON that leaves: a record, a result, an event.

    A program reads it, so a text that only looks like a secret stays; a URL such as ``s3://connection@bucket`` is one. What
    this process has used as a secret goes, and so does what is one wherever it stands.

    :param value: texts, numbers, lists and objects.
    :param deep: so many levels; no record has as many.
    :return: the same without secrets; what is of another type as it is.
    """
    if isinstance(value, str):
        for form in _forms:
            if len(form) >= SHORTEST_IN_VALUES and form in value:
                value = value.replace(form, MASK)
        for pattern, replacement in _PLAIN:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping) and deep:
        return {cleaned(name): cleaned(item, deep - 1) for name, item in value.items()}
    if type(value) in (list, tuple) and deep:
        return type(value)(cleaned(item, deep - 1) for item in value)
    return value


def excerpt(text: str | bytes, limit: int) -> str:
    """Cut what another system said to a length; after the secrets are out, since half a secret is one too.

    :param limit: characters.
    :return: its beginning, without secrets and without space around it.
    """
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return redacted(said.strip())[:limit]
