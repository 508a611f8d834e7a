"""Masking is linear in the length of the text: controllers write 20,000 characters, and a triggerer waits for it."""

from __future__ import annotations

import base64

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.redaction import (
    MASK,
    MOST,
    cleaned,
    excerpt,
    redacted,
    remember,
    remember_header,
    secrets_in,
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["x", "a.", "a-b", "x=", "token", "token ", "://", "a+", "eyJ-"])
def test_a_long_text_takes_no_time(unit: str) -> None:
    assert redacted(unit * 100_000)


def test_what_stands_before_the_word_stays_and_the_value_goes() -> None:
    assert redacted("my.db-password=hunter2 other=1") == "my.db-password=*** other=1"
    assert redacted("https://ada:s3cr3t@git.example.com/x") == "https://***@git.example.com/x"


def test_a_secret_that_was_used_goes_out_of_every_error() -> None:
    secret = "pl4in-w0rds"
    assert secret in str(InvalidInput(f"no {secret}"))
    remember(secret)
    error = InvalidInput(f"no {secret}", remedy="Look.")
    assert str(error) == "no ***. Look."
    assert error.message == "no ***"


def test_plain_words_are_no_secrets() -> None:
    remember("token", "airflow", "a", "")
    assert redacted("the airflow token is a word") == "the airflow token is a word"


def test_the_oldest_secrets_are_forgotten_first() -> None:
    for number in range(MOST + 1):
        remember(f"secret-of-number-{number:05}")
    assert redacted("secret-of-number-00000 and secret-of-number-00001") == "secret-of-number-00000 and ***"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "z", "yz", "xyz"])
def test_within_base64_a_secret_is_found_wherever_it_stands(before: str, after: str) -> None:
    remember("S3cret/With+Signs")
    packed = base64.b64encode(f"{before}S3cret/With+Signs{after}".encode()).decode()
    shown = redacted(packed)
    rest = base64.b64decode((left := shown.partition("***")[0]) + "=" * (-len(left) % 4)) if shown else b""
    assert "***" in shown
    assert b"S3cret" not in rest
    assert len(shown) < len(packed) - 10


def test_a_header_is_remembered_by_its_password_too() -> None:
    remember_header("Basic " + base64.b64encode(b"ada:b4sic-pa55").decode())
    assert redacted("with b4sic-pa55") == "with ***"


def test_an_excerpt_is_cut_after_the_secrets_are_out() -> None:
    remember("h4lf-a-secret-is-one")
    assert excerpt("  said h4lf-a-secret-is-one", 12) == "said ***"


def test_what_a_program_reads_keeps_what_only_looks_like_a_secret() -> None:
    remember("known-to-us-12", "short")
    sent = {
        "uri": "s3://artifacts@bucket/token=1/model",
        "image": "docker://web@sha256:" + "a" * 64,
        "said": ["bad known-to-us-12", base64.b64encode(b"x known-to-us-12 y").decode(), ("short", 7, None)],
        "url": "https://ann:pass@host/x",
        "known-to-us-12": "ghp_" + "a" * 30,
    }
    found = cleaned(sent)
    assert found == {
        "uri": sent["uri"],
        "image": sent["image"],
        "said": [f"bad {MASK}", found["said"][1], ("short", 7, None)],
        "url": f"https://{MASK}@host/x",
        MASK: MASK,
    }
    assert MASK in found["said"][1]
    assert cleaned(found) == found


def test_nesting_without_end_is_left_to_whoever_refuses_it() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert isinstance(cleaned(deep), list)


def test_where_the_secrets_are_is_told_as_they_are_taken_out() -> None:
    text = 'https://ann:geheim@host/x?token=abc12345 and "password": "open sesame", eyJhbGci1.eyJzdWIi2.abc'
    found = sorted(set(secrets_in(text)))
    assert [text[start:end] for start, end in found] == [
        "ann:geheim",
        "abc12345",
        '"open sesame"',
        "eyJhbGci1.eyJzdWIi2.abc",
    ]


def test_a_web_token_behind_a_hyphen_goes() -> None:
    assert redacted("a-eyJhbGci1.eyJzdWIi2.abc b") == f"a-{MASK} b"
    assert redacted("It is eyJhbGci1.eyJzdWIi2.abcdef. Or") == f"It is {MASK}. Or", (
        "a sentence may end with it"
    )
    assert redacted(".".join(["eyJhbGci1.eyJzdWIi2.abcdef"] * 2)) == f"{MASK}.{MASK}"
