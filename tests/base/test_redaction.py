"""Masking is linear in the length of the text: controllers write 20,000 characters, and a triggerer waits for it."""

from __future__ import annotations

import pytest

from airflow_pipeops.base.redaction import redacted


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["x", "a.", "a-b", "x=", "token", "token ", "://", "a+"])
def test_a_long_text_takes_no_time(unit: str) -> None:
    assert redacted(unit * 100_000)


def test_what_stands_before_the_word_stays_and_the_value_goes() -> None:
    assert redacted("my.db-password=hunter2 other=1") == "my.db-password=*** other=1"
    assert redacted("https://ada:s3cr3t@git.example.com/x") == "https://***@git.example.com/x"
