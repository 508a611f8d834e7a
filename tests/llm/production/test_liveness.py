"""Live is what all calls of a window say, once no cache holds the prompt before: never too early, and never by silence."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production.liveness import Expected, Seen, decide

NEW, OLD, OTHER = "n" * 64, "o" * 64, "x" * 64
EXPECTED = Expected(NEW, released=1000.0, least=5, before=(OLD,))
#: The first window that holds no cached prompt: 1060 to 1180.
READY = 1180.0


def calls(*digests: str, start: float = 1061.0) -> tuple[tuple[float, str], ...]:
    return tuple((start + number, digest) for number, digest in enumerate(digests))


@pytest.mark.parametrize(
    ("seen", "state", "rule"),
    [
        (Seen(None), "wait", "not_sampled"),
        (Seen(900.0, calls(NEW, start=800)), "wait", "not_sampled"),
        (Seen(READY - 1, calls(*[NEW] * 50)), "wait", "cache"),
        (Seen(READY, calls(*[NEW] * 5)), "done", "live"),
        (Seen(READY, calls(*[NEW] * 4)), "wait", "few"),
        (Seen(READY), "wait", "few"),
        (Seen(READY, calls(*[NEW] * 50, OLD)), "wait", "mixed"),
        (Seen(READY, calls(*[OLD] * 50)), "wait", "mixed"),
        (Seen(READY, calls(*[NEW] * 50, OTHER)), "wait", "mixed"),
        (Seen(READY, calls(*[OTHER] * 5)), "failed", "superseded"),
        (Seen(READY, calls(*[OTHER] * 4)), "wait", "mixed"),
        (Seen(READY, calls(*[NEW] * 50, "")), "wait", "untagged"),
        (Seen(READY, calls(*[""] * 50)), "wait", "untagged"),
        (Seen(READY, calls(OLD, start=1059) + calls(*[NEW] * 5)), "done", "live"),
        (Seen(READY + 500, calls(*[NEW] * 50)), "wait", "few"),
        (Seen(READY, calls(*[NEW] * 50, start=READY)), "wait", "few"),
    ],
)  # fmt: skip
def test_the_first_rule_that_matches_decides(seen: Seen, state: str, rule: str) -> None:
    found = decide(seen, EXPECTED)
    assert (found.state, found.rule) == (state, rule)
    assert Seen.from_json(seen.to_json()).until == seen.until


def test_a_deadline_says_why_and_is_never_done() -> None:
    found = decide(Seen(READY, calls(*[""] * 50)), EXPECTED, waited=1800)
    assert (found.state, found.rule, found.details["last_rule"]) == ("failed", "deadline", "untagged")
    assert "nobody can tell" in found.reason
    assert decide(Seen(READY, calls(*[NEW] * 50)), EXPECTED, waited=9999).state == "done"


def test_without_knowing_what_was_before_another_prompt_is_waited_for() -> None:
    found = decide(Seen(READY, calls(*[OTHER] * 50)), Expected(NEW, 1000.0, least=5))
    assert (found.state, found.rule) == ("wait", "mixed")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.floats(900, 1400), st.sampled_from([NEW, NEW, NEW, OLD, OTHER, ""])), max_size=40),
    st.floats(900, 1400),
)
def test_green_is_never_false(found: list[tuple[float, str]], until: float) -> None:
    verdict = decide(Seen(until, tuple(found)), EXPECTED)
    inside = [digest for at, digest in found if max(1060.0, until - 120) <= at < until]
    if verdict.state == "done":
        assert set(inside) == {NEW}
        assert len(inside) >= 5
        assert until - 120 >= 1060
    elif until >= READY and len(inside) >= 5:
        assert set(inside) != {NEW}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"digest": ""}, "digest"), ({"least": 0}, "least"), ({"window": timedelta(0)}, "window")],
)
def test_what_makes_no_sense(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Expected(**{"digest": NEW, "released": 1.0, **wrong})
    assert error.value.field == field
