"""Take secrets and personal data out of what people asked and models answered, before any of it is stored. Pure.

What is found is replaced by its kind and a number, ``<EMAIL_1>``; within one record, the same value has the same number.
Found are secrets (all that :mod:`~airflow_pipeops.redaction` knows, and the tokens of further services), addresses of
e-mail, numbers of telephones, accounts (IBAN, by its checksum), cards (by Luhn's), and IP addresses: as they stand, within
JSON, URLs, Base64 and hex, and broken over lines. Names of people and places are not found: nothing but a model could, and
it would be wrong at times.

What was masked already stays as it is. The time is linear in the length of a text, whatever it holds.
"""

from __future__ import annotations

import ipaddress
import json
import re
from base64 import b64decode
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from typing import Any, TypeAlias
from urllib.parse import unquote

from airflow_pipeops.redaction import MASK, secrets_in, used_in

#: Where something begins and ends, and what it is.
Span: TypeAlias = tuple[int, int, str]

#: What a placeholder says.
KINDS = ("SECRET", "CARD", "IBAN", "EMAIL", "PHONE", "IP")

#: What is looked at beyond the part of a text that is kept, so that what the cut would halve is found whole.
BEYOND = 4096
#: A text that has not come to rest after so many rounds is masked as a whole.
_ROUNDS = 12
_DEEPEST = 40

_PLACEHOLDER = re.compile(rf"<(?:{'|'.join(KINDS)})_\d+>")
_SECRET_NAME = re.compile(
    r"(?i)(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?"
)
#: ... but tokens are counted, too.
_COUNTED = re.compile(r"(?i)tokens?\\*[\"']?\s{0,9}[=:]\s{0,9}$")

#: Of one length, so that a line break within is no end.
_FIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36}|A[KS]IA[0-9A-Z]{16}|AIza[\w-]{35}|hf_[A-Za-z0-9]{34}|npm_[A-Za-z0-9]{36}"
    r"|SK[0-9a-f]{32}|dapi[0-9a-f]{32}|dop_v1_[0-9a-f]{64}|sk-proj-[\w-]{48}|sk-[A-Za-z0-9]{48})"
)
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk)-[\w-]{20,}|gsk_\w{20,}|xai-\w{20,}|ya29\.[\w-]{20,}|hf_\w{20,}|npm_\w{20,}|pypi-[\w-]{20,}"
    r"|[srp]k_(?:live|test)_\w{10,}|whsec_[\w+/=]{16,}|SG\.[\w-]{16,200}\.[\w-]{16,}|hvs\.[\w-]{20,}|xox[a-z]-[\w-]{10,}"
    r"|gh[pousr]_\w{16,}|A[KS]IA[0-9A-Z]{12,}|AIza[\w-]{30,}|AccountKey=[\w+/]{20,}={0,2})"
    r"|(?<=hooks\.slack\.com/services/)[\w/]{10,}"
)
#: JSON in a JSON string, within other text.
_ESCAPED = re.compile(
    rf"{_SECRET_NAME.pattern}\\{{1,8}}[\"']\s{{0,9}}:\s{{0,9}}\\{{1,8}}[\"']"
    rf"([^\"'\\\n]{{1,500}}(?:\\{{1,8}}[\"'](?!\s{{0,9}}(?:[,}}\]:]|$))[^\"'\\\n]{{0,500}}){{0,4}})"
)
_DOMAIN = re.compile(
    r"(?:\r?\n)?(?:@|%40)(?:\r?\n)?[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.(?:[^\W\d_]{2,24}|xn--[\w-]{1,59})"
)
_LOCAL = re.compile(r"[\w.+%'~!#$*^`{|}-]")
_IBAN = re.compile(r"(?<![a-z0-9])(?=([a-z]{2}\d{2}(?:[ .\-]{0,2}[a-z0-9]){11,30}))", re.A | re.I)
_GROUP = r"[ .\-]{0,2}"
_CARD = re.compile(
    rf"(?<!\d)(?=([3-6]\d{{3}}(?:{_GROUP}\d{{4}}){{3}}(?:{_GROUP}\d{{1,3}})?(?!\d)"
    rf"|[2-6]\d{{3}}(?:{_GROUP}\d{{4}}){{3}}(?!\d)|3\d{{3}}(?:{_GROUP}\d{{4}}){{2}}{_GROUP}\d{{2,3}}(?!\d)"
    rf"|3\d{{3}}{_GROUP}\d{{6}}{_GROUP}\d{{4,5}}(?!\d)|[2-6]\d{{12,18}}(?!\d)))"
)
_PHONES = (
    re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ().\-/\r\n\u00a0]{0,3}\d){6,14}"),
    re.compile(r"(?<![\w.+-])\(?\d{3}\)?[ .\-\u00a0]{1,2}\d{3}[ .\-\u00a0]\d{4}(?!\w)"),
    re.compile(r"(?<![\w.+/-])\(?0\d{1,4}\)?[ /\-\u00a0]{1,3}\d{3,8}(?:[ \-]?\d{2,8}){0,3}(?!\w)"),
    re.compile(r"(?<![\w.+/-])0\d(?:[ .\-]\d{2}){4}(?!\w)"),
)
_IPV4 = re.compile(r"(?<!\d)(?<!\d\.)(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f:]{2,40}(?:\.\d{1,3}){0,3}(?![\w:])")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}(?:(?:\r?\n[ \t]{0,8})[A-Za-z0-9+/_-]{4,}){0,400}={0,2}")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}){12,}(?![0-9A-Za-z])")
_QUOTED = re.compile(r"[\w.+%~\-]{8,}")
_BREAK = re.compile(r"(?:\r\n?|\n)[ \t>]*")
_SPACING = re.compile(r"[\s.()/\-]+")

#: Length of an IBAN -> countries.
_IBANS = {
    15: "NO", 16: "BE", 18: "DK FO FI GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTHS = {code: length for length, codes in _IBANS.items() for code in codes.split()}


class Masker:
    """Masks the texts of one record, so that a value has one placeholder in all of them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._last: Counter[str] = Counter()
        #: How often each kind was masked.
        self.counts: Counter[str] = Counter()

    def text(self, text: str, limit: int | None = None) -> str:
        """Mask a text.

        :param text: of any length and content; what is JSON stays JSON.
        :param limit: so many characters are kept; the rest is left out after the masking, since half a secret is one, too.
        :return: the text without secrets and personal data.
        """
        if limit is not None and len(text) > limit:
            # A cut may make something of what was nothing: half a number.
            return self._settled(self._settled(text[: limit + BEYOND])[:limit])
        parsed = _json(text)
        if parsed is None:
            return self._settled(text)
        masked = self._value(parsed)
        return text if masked == parsed else json.dumps(masked, ensure_ascii=False)

    def _value(self, value: Any, deep: int = 0) -> Any:
        """Mask what JSON holds; what is nested too deeply as its text."""
        if deep > _DEEPEST:
            return self._settled(json.dumps(value, ensure_ascii=False))
        if isinstance(value, str):
            return self.text(value) if deep < _DEEPEST else self._settled(value)
        if isinstance(value, dict):
            return {self._settled(name): self._named(name, item, deep + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, deep + 1) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            masked = self._settled(str(value))
            return value if masked == str(value) else masked
        return value

    def _named(self, name: str, value: Any, deep: int) -> Any:
        secret = isinstance(value, str) and value and _SECRET_NAME.search(name)
        if secret and value != MASK and not value.isdigit() and not _only_placeholders(value):
            return self._placeholder("SECRET", value)
        return self._value(value, deep)

    def _settled(self, text: str) -> str:
        """Mask until nothing more is found: what stands beside a placeholder may look like something only now."""
        for _ in range(_ROUNDS):
            spans = _merged(text)
            if not spans:
                return text
            parts, last = [], 0
            for start, end, kind in spans:
                parts += [text[last:start], self._placeholder(kind, text[start:end])]
                last = end
            text = "".join(parts) + text[last:]
        return self._placeholder("SECRET", text)

    def _placeholder(self, kind: str, value: str) -> str:
        key = _BREAK.sub("", value) if kind == "SECRET" else _SPACING.sub("", value).lower()
        self.counts[kind] += 1
        if (kind, key) not in self._known:
            self._last[kind] += 1
            self._known[kind, key] = f"<{kind}_{self._last[kind]}>"
        return self._known[kind, key]


def identifier(value: str) -> str:
    """Return an id that may be stored: itself, or its digest where it holds something that would be masked.

    :param value: of a request or conversation, as the application made it.
    :return: the same for the same value, so that what names it later still joins.
    """
    if not _merged(value):
        return value[:200]
    return f"sha256:{sha256(value.encode('utf-8', 'replace')).hexdigest()[:24]}"


def found(text: str) -> list[str]:
    """Return the kinds of what would be masked, in the order of the text.

    :param text: of any content.
    :return: one for each place.
    """
    return [kind for _, _, kind in _merged(text)]


def _only_placeholders(value: str) -> bool:
    return not _PLACEHOLDER.sub("", value).strip()


def _json(text: str) -> Any:
    """Return what a JSON text holds; ``None`` for any other, and where a name stands twice and hides a value."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return None

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(whole := dict(pairs)) < len(pairs):
            raise ValueError("a name twice")
        return whole

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


def _merged(text: str, depth: int = 2) -> list[Span]:
    """Return what is found, in order, with what overlaps as one, of the kind of the longest."""
    spans: list[Span] = []
    longest = 0
    for start, end, kind in sorted(_spans(text, depth)):
        if spans and start < spans[-1][1]:
            first, until, other = spans[-1]
            spans[-1] = (first, max(until, end), kind if end - start > longest else other)
            longest = max(longest, end - start)
        else:
            spans.append((start, end, kind))
            longest = end - start
    return spans


def _spans(text: str, depth: int) -> Iterator[Span]:
    if len(text) < 5:
        return
    joined, places = _unwrapped(text)
    for start, end, kind in chain(_plain(text), _encoded(text, depth)):
        if not _masked_already(text, start, end):
            yield (*_inside(text, start, end), kind)
    if places:
        for start, end in used_in(text.translate({10: " ", 13: " "})):  # broken between its words
            yield start, end, "SECRET"
        for start, end, kind in _whole(joined):
            yield _place(places, start), _place(places, end - 1) + 1, kind


def _plain(text: str) -> Iterator[Span]:
    """Find what stands as it is."""
    for start, end in secrets_in(text):
        counted = text[start:end].isdigit() and _COUNTED.search(text, max(0, start - 40), start)
        if not counted:
            yield start, end, "SECRET"
    for match in _TOKENS.finditer(text):
        yield match.start(), match.end(), "SECRET"
    for match in _ESCAPED.finditer(text):
        yield match.start(1), match.end(1), "SECRET"
    yield from _whole(text)
    yield from _emails(text)
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            yield match.start(), match.end(), "PHONE"
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            if _is_ip(match[0]):
                yield match.start(), match.end(), "IP"


def _whole(text: str) -> Iterator[Span]:
    """Find what is certain by its length or checksum, so that line breaks may be left out before."""
    for start, end in used_in(text):
        yield start, end, "SECRET"
    for match in _FIXED.finditer(text):
        yield match.start(), match.end(), "SECRET"
    for match in _CARD.finditer(text):
        if length := _card(match[1]):
            yield match.start(), match.start() + length, "CARD"
    for match in _IBAN.finditer(text):
        if length := _iban(match[1]):
            yield match.start(), match.start() + length, "IBAN"


def _emails(text: str) -> Iterator[Span]:
    """Find addresses from their ``@`` on: to search for what stands before it would cost the square of a long word."""
    last = 0
    for match in _DOMAIN.finditer(text):
        start = match.start()
        while start > last and _LOCAL.match(text, start - 1):
            start -= 1
        while start < match.start() and text[start] in "'`{|}":  # quotes around it
            start += 1
        if start < match.start():
            yield start, match.end(), "EMAIL"
        last = match.end()


def _encoded(text: str, depth: int) -> Iterator[Span]:
    """Find what lies in Base64, hex or the escapes of a URL."""
    if not depth:
        return
    for match in _ENCODED.finditer(text):
        lines = match[0].split()
        pieces = [*lines, "".join(lines)] if len(lines) > 1 else lines
        if kind := _first(map(_from_base64, pieces), depth):
            yield match.start(), match.end(), kind
    for match in _HEX.finditer(text):
        if kind := _first([bytes.fromhex(match[0])], depth):
            yield match.start(), match.end(), kind
    if "%" in text:
        for match in _QUOTED.finditer(text):
            if "%" in match[0] and (spans := _merged(unquote(match[0]), depth - 1)):
                yield match.start(), match.end(), spans[0][2]


def _first(decoded: Iterable[bytes], depth: int) -> str:
    """Return the kind of the first that is found in what was decoded; empty for nothing."""
    for raw in decoded:
        legible = "\n\n".join(
            part for part in raw.decode("utf-8", "replace").split("\ufffd") if len(part) >= 6
        )
        if legible and (spans := _merged(legible, depth - 1)):
            return spans[0][2]
    return ""


def _from_base64(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    return b64decode(plain + "=" * (-len(plain) % 4))


def _inside(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave quotes around a value as they are."""
    if end - start > 2 and text[start] in "\"'" and text[end - 1] == text[start]:
        return start + 1, end - 1
    return start, end


def _masked_already(text: str, start: int, end: int) -> bool:
    value = text[start:end].strip("\"'")
    return not value or set(value) <= {"*"} or _only_placeholders(value)


def _card(text: str) -> int:
    """Return how much of a text is the number of a card; the longest that Luhn's check lets pass, 0 for none."""
    digits = [(place, int(letter)) for place, letter in enumerate(text) if letter.isdigit()]
    for count in range(len(digits), 12, -1):
        end = digits[count - 1][0] + 1
        if end < len(text) and text[end].isdigit():
            continue
        total = 0
        for index, (_, digit) in enumerate(reversed(digits[:count])):
            total += sum(divmod(digit * 2, 10)) if index % 2 else digit
        if total % 10 == 0:
            return end
    return 0


def _iban(text: str) -> int:
    """Return how much of a text is an account, by the length of its country and the check of ISO 7064; 0 for none."""
    wanted, seen = _IBAN_LENGTHS.get(text[:2].upper(), 0), ""
    if not wanted:
        return 0
    for place, letter in enumerate(text):
        if letter.isalnum():
            seen += letter
        if len(seen) == wanted:
            number = "".join(str(int(each, 36)) for each in seen[4:] + seen[:4])
            return place + 1 if int(number) % 97 == 1 else 0
    return 0


def _is_ip(text: str) -> bool:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (found.is_unspecified or found.is_loopback)


def _unwrapped(text: str) -> tuple[str, tuple[list[int], list[int]] | None]:
    """Leave the line breaks out, with the indents that follow; and say what stands where."""
    if "\n" not in text and "\r" not in text:
        return text, None
    parts, at, removed, last, gone = [], [0], [0], 0, 0
    for match in _BREAK.finditer(text):
        parts.append(text[last : match.start()])
        gone += match.end() - match.start()
        last = match.end()
        at.append(last - gone)
        removed.append(gone)
    return "".join([*parts, text[last:]]), (at, removed)


def _place(places: tuple[list[int], list[int]], index: int) -> int:
    at, removed = places
    return index + removed[bisect_right(at, index) - 1]
