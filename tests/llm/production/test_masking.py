"""What is masked: nothing of a value survives, whatever it is wrapped in; what is none stays; and it never takes long."""

from __future__ import annotations

import base64
import json
import re
import textwrap
import time
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_pipeops import redaction
from airflow_pipeops.llm.masking import Masker, found, identifier

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def masked(text: str) -> str:
    return Masker().text(text)


# --- values, made so that each is valid -----------------------------------------------------------------------------


def luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        total += sum(divmod(int(digit) * 2, 10)) if place % 2 == 0 else int(digit)
    return body + str(-total % 10)


def iban(country: str, rest: str) -> str:
    number = int("".join(str(int(each, 36)) for each in rest + country + "00"))
    return f"{country}{98 - number % 97:02d}{rest}"


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=count, max_size=count)


LETTERS = "abcdefghijklmnopqrstuvwxyz"
KEY = st.text(LETTERS.upper() + LETTERS + "0123456789", min_size=36, max_size=36)
CARDS = st.one_of(
    st.builds(
        lambda head, tail: luhn(head + tail), st.sampled_from(["4", "51", "55", "2221", "6011"]), digits(14)
    ).map(lambda number: luhn(number[:15])),
    st.builds(lambda head, tail: luhn(head + tail), st.sampled_from(["34", "37"]), digits(12)),
)
IBANS = st.one_of(
    st.builds(lambda rest: iban("DE", rest), digits(18)),
    st.builds(
        lambda bank, rest: iban("GB", bank + rest),
        st.text(LETTERS.upper(), min_size=4, max_size=4),
        digits(14),
    ),
    st.builds(lambda rest: iban("NO", rest), digits(11)),
)
EMAILS = st.builds(
    lambda local, host, top: f"{local}@{host}.{top}",
    st.from_regex(r"[a-z][a-z0-9._+-]{0,20}[a-z0-9]", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9-]{0,15}[a-z0-9]", fullmatch=True),
    st.sampled_from(["com", "de", "co.uk", "example"]),
)
PHONES = st.builds(
    lambda country, area, rest, gap: f"+{country}{gap}{area}{gap}{rest}",
    st.sampled_from(["1", "49", "44", "380"]),
    digits(3).filter(lambda text: text[0] != "0"),
    digits(7),
    st.sampled_from(["", " ", "-", "."]),
)
IPS = st.one_of(
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
).filter(lambda ip: not ip.startswith(("127.", "0.0.0.0")) and len(ip) > 6)  # fmt: skip
SECRETS = st.one_of(
    KEY.map(lambda key: "ghp_" + key),
    KEY.map(lambda key: "sk-" + key + key[:12]),
    KEY.map(lambda key: "AKIA" + key[:16].upper()),
    KEY.map(lambda key: "hf_" + key[:34]),
)
VALUES = st.one_of(
    CARDS.map(lambda value: ("CARD", value)),
    IBANS.map(lambda value: ("IBAN", value)),
    EMAILS.map(lambda value: ("EMAIL", value)),
    PHONES.map(lambda value: ("PHONE", value)),
    IPS.map(lambda value: ("IP", value)),
    SECRETS.map(lambda value: ("SECRET", value)),
)


def grouped(value: str) -> str:
    return " ".join(textwrap.wrap(value, 4))


#: What a value may be wrapped in, and for which kinds.
WRAPS = {
    "plain": lambda value: f"see {value}, please",
    "sentence": lambda value: f"It is {value}.",
    "quoted": lambda value: f"it's '{value}' (or \"{value}\")",
    "json": lambda value: json.dumps({"a": [{"text": f"it is {value}"}]}),
    "json in json": lambda value: json.dumps({"arguments": json.dumps({"to": value, "n": 3})}),
    "json in prose": lambda value: f"call tool with {json.dumps({'to': value})} now",
    "base64": lambda value: "blob " + base64.b64encode(f"the value is {value}".encode()).decode(),
    "url-safe base64": lambda value: base64.urlsafe_b64encode(f"value?>?> {value}".encode()).decode(),
    "wrapped base64": lambda value: base64.encodebytes(("x" * 60 + f" value {value}").encode()).decode(),
    "hex": lambda value: f"the value {value}".encode().hex(),
}


def gone(value: str, text: str) -> bool:
    """Neither the value nor its bare form is there, nor any long part of it."""
    bare = re.sub(r"[\s.()-]", "", value)
    flat = re.sub(r"[\s.()-]", "", re.sub(r"<[A-Z]+_\d+>", "|", text))
    parts = {bare[start : start + 6] for start in range(max(1, len(bare) - 5))} if bare.isalnum() else {bare}
    return value not in text and not any(part in flat for part in parts)


@pytest.mark.parametrize("wrap", WRAPS)
@QUICK
@given(VALUES)
def test_nothing_of_a_value_survives(wrap: str, pair: tuple[str, str]) -> None:
    kind, value = pair
    text = WRAPS[wrap](value)
    once = masked(text)
    assert gone(value, once), once
    assert re.search(r"<[A-Z]+_\d+>", once)
    if wrap in ("plain", "json", "sentence"):
        assert f"<{kind}_1>" in once
    assert masked(once) == once


@QUICK
@given(st.one_of(CARDS, IBANS, SECRETS), st.data())
def test_nor_across_line_breaks(value: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(value) - 1))
    gap = data.draw(st.sampled_from(["\n", "\r\n", "\n    ", "\n> "]))
    text = f"Here it is:\n{value[:place]}{gap}{value[place:]}\nThank you"
    once = masked(text)
    assert gone(value, once.replace("\n", "").replace("> ", "")), once
    assert once.endswith("Thank you")
    assert masked(once) == once


@QUICK
@given(st.one_of(CARDS, IBANS))
def test_nor_in_groups(value: str) -> None:
    for text in (
        grouped(value),
        grouped(value).replace(" ", "-"),
        grouped(value).replace(" ", "\n"),
        value.lower(),
    ):
        assert gone(value.lower(), masked(f"account {text} today").lower())


@QUICK
@given(
    st.lists(
        st.one_of(
            VALUES.map(lambda pair: pair[1]),
            st.text(max_size=30),
            st.sampled_from(["\n", " ", "@", "password=", '"', "<IP_1>", "***"]),
        ),
        max_size=8,
    )
)
def test_masking_again_changes_nothing(parts: list[str]) -> None:
    for text in ("".join(parts), " ".join(parts), json.dumps(parts), json.dumps("".join(parts))):
        once = masked(text)
        assert masked(once) == once
        assert masked(masked(once)) == once


def test_a_value_has_one_placeholder_in_a_record_and_others_have_others() -> None:
    mask = Masker()
    asked = mask.text("From ann@example.com to bob@example.com, call +49 30 1234567")
    answered = mask.text('{"to": "Bob@example.com", "phone": "+49-30-1234567"}')
    assert asked == "From <EMAIL_1> to <EMAIL_2>, call <PHONE_1>"
    assert json.loads(answered) == {"to": "<EMAIL_2>", "phone": "<PHONE_1>"}
    assert mask.counts == {"EMAIL": 3, "PHONE": 2}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"password": "open sesame", "n": 1}', '{"password": "<SECRET_1>", "n": 1}'),
        ('run with {"password": "open sesame"} now', 'run with {"password": "<SECRET_1>"} now'),
        ('said "{\\"api_key\\": \\"open sesame\\"}"', 'said "{\\"api_key\\": \\"<SECRET_1>\\"}"'),
        ("https://ann:geheim@example.com/x", "https://<EMAIL_1>/x"),
        ("https://ann:geheim@intranet/x", "https://<SECRET_1>@intranet/x"),
        ("mail?to=ann%40example.com&x=1", "mail?to=<EMAIL_1>&x=1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "<SECRET_1>"),
        ('{"usage": {"total_tokens": 512}}', '{"usage": {"total_tokens": 512}}'),
        ("it used tokens: 512 of 4096", "it used tokens: 512 of 4096"),
        ("fe80::1ff:fe23:4567:890a and 10.0.0.7.", "<IP_1> and <IP_2>."),
        ('{"card": 4111111111111111}', '{"card": "<CARD_1>"}'),
        ('{"a": "ann@example.com", "a": 1}', '{"a": "<EMAIL_1>", "a": 1}'),
        ("no. 12 4111 1111 1111 1111 12/28", "no. 12 <CARD_1> 12/28"),
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN <IBAN_1> AND MORE"),
        ("(030) 1234567, 0171/1234567, 06 12 34 56 78 or (415) 555-2671", "<PHONE_1>, <PHONE_2>, <PHONE_3> or <PHONE_4>"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghij is it", "<SECRET_1> is it"),
    ],
)  # fmt: skip
def test_examples(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "On 2026-11-29 at 23:05:12 the order 4111111111111112 came in.",
        "Version 10.4.1 of std::vector costs 1,234,567.89 EUR, see chapter 3.2.1.1.9",
        "a7f3c0de" * 8,
        "DE00370400440532013000 is no account",
        "The ratio is 0.1234567890123 and pi is 3.14159265358979",
        "0123456789abcdef0123456789abcdef path/to/some/long/file-name_of_a_thing.txt",
        "user @ home, see @ann, foo@localhost",
        "2026-01-31T10:00:00.000Z/2026-02-01T10:00:00.000Z",
        '{"id": 1764457512345, "max_tokens": 4096, "ok": true, "x": 0.25}',
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert masked(text) == text


def test_a_secret_that_the_process_has_used_goes_in_every_form() -> None:
    secret = "correct horse battery"
    redaction.remember(secret)
    for text in (secret, "correct horse\nbattery", quote(secret), secret.encode().hex()):
        once = masked(f"it is {text}!")
        assert "horse" not in once
        assert "SECRET" in once
    inner = base64.b64encode(b"xy" + secret.encode()).decode()
    assert inner[4:-4] not in masked(f"it is {inner}!")


def test_a_cut_leaves_no_half_of_a_secret() -> None:
    key = "ghp_" + "a1B2" * 9
    for cut in range(80, 140):
        kept = Masker().text("x" * 95 + " " + key + " and more" * 20, limit=cut)
        assert "a1B2" not in kept
        assert len(kept) <= cut


def test_an_id_stays_unless_it_tells_who_it_is() -> None:
    assert identifier("conv-0815") == "conv-0815"
    assert identifier("ann@example.com") == identifier("ann@example.com") != identifier("bob@example.com")
    assert "ann" not in identifier("ann@example.com")


HOSTILE = {
    "letters": "a" * 100_000,
    "at signs": "a@" * 50_000,
    "domains": "a@" + "b." * 50_000,
    "hyphens": "eyJ-" * 25_000,
    "tokens": "eyJaaaaa." * 10_000,
    "digits": "4" * 100_000,
    "groups": "4111 " * 20_000,
    "zeros": "0" * 100_000,
    "plus": "+1" * 50_000,
    "spaces": "password" + " " * 100_000,
    "names": "password" * 12_000,
    "quotes": 'password="' * 10_000,
    "backslashes": "\\" * 100_000,
    "escaped": 'password\\": \\"' * 8_000,
    "base64": "QUJD" * 25_000,
    "hex": "deadbeef" * 12_500,
    "percent": "%41" * 33_000,
    "lines": "\n" * 100_000,
    "short lines": "ab\n" * 33_000,
    "base64 lines": ("QUJD" * 19 + "\n") * 1_300,
    "addresses": "ann@example.com " * 6_000,
    "many": "".join(f"u{n}@example.com " for n in range(5_000)),
    "urls": "http://" * 14_000,
    "colons": "a:" * 50_000,
    "keys": "-----BEGIN PRIVATE KEY-----" * 3_700,
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 16_000 + "1" + "}" * 16_000,
    "ibans": "DE89370400440532013001 " * 4_300,
    "dots": "1." * 50_000,
    "sg": "SG." + "a." * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_time_by_its_length(name: str) -> None:
    """Four times the text may take about four times as long; the square would be sixteen."""
    text = HOSTILE[name][:40_000]

    def taken(part: str) -> float:
        started = time.process_time()
        masked(part)
        return time.process_time() - started

    quarter = min(taken(text[: len(text) // 4]) for _ in range(2))
    assert taken(text) < 9 * quarter + 0.3


def test_kinds_are_told() -> None:
    assert found("ann@example.com at 10.1.2.3") == ["EMAIL", "IP"]
