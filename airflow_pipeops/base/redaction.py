"""Take secrets out of texts that other systems wrote, before they reach a log, an error or an event. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

MASK = "***"

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
    # JSON web tokens and the tokens of the large forges and clouds, wherever they stand.
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), MASK),
    (
        re.compile(
            r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}|xox[abpr]-[\w-]{10,}|AKIA[0-9A-Z]{16})"
        ),
        MASK,
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MASK),
)


def redacted(text: str, also: Callable[[str], str] | None = None) -> str:
    """Take out of a text what looks like a secret.

    :param also: a further masker, for example Airflow's own, which knows the secrets of the connections in use.
    :return: the text without it.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return also(text) if also else text
