"""What proves that a model runs: by kind, digest and time, and by nothing that only names a digest."""

from __future__ import annotations

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.rollback.proof import against, kind_of, proof_of

OLD, BAD = "1" * 64, "2" * 64
SINCE, AFTER = "2026-01-31T10:00:00+00:00", "2026-01-31T10:00:07.250+00:00"
ENDPOINT = {"url": "http://m", "model": "m", "version": "1", "sha256": OLD, "rows": 50, "max_difference": 0.0,
            "seconds": 0.1, "verified_at": AFTER}  # fmt: skip
STREAM = {"app": "g@t", "release": "r3", "revision": "c", "sha256": OLD, "rule": "live", "proven_by": "committed offsets",
          "partitions": {"0": {"committed": 9}}, "seen_at": AFTER, "record_id": "a"}  # fmt: skip
BATCH = {"partition": "2013-11", "outcome": "scored", "sha256": OLD, "manifest": "s3://m/manifest.json", "shown": True,
         "shown_at": AFTER, "rows": 5}  # fmt: skip
MANIFEST = {"model": {"sha256": OLD}, "passed": True, "shadow": False, "rows": 5}


def why(given, manifest=MANIFEST) -> str:
    return against(proof_of(given, manifest), OLD, SINCE)


def test_each_kind_proves_by_its_digest_and_its_time():
    for kind, given in (("endpoint", ENDPOINT), ("stream", STREAM), ("batch", BATCH)):
        assert kind_of(given) == kind
        assert why(given) == ""
        assert (
            why({**given, "sha256": BAD}, {**MANIFEST, "model": {"sha256": BAD}})
            == f"the {kind} shows 222222222222"
        )
        assert why({**given, "sha256": None}) == f"the {kind} shows no model"
        at = next(name for name in given if name.endswith("_at"))
        assert "before the change at 2026-01-31" in why({**given, at: "2026-01-31T09:59:50Z"})
        assert why({**given, at: "2026-01-31T09:59:58Z"}) == "", "clocks differ by seconds"
        assert "nobody can tell whether" in why({**given, at: ""})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({**ENDPOINT, "rows": 0}, "no row was asked for"),
        (
            {**STREAM, "rule": "ready", "proven_by": "empty range"},
            "its verdict is 'ready', and live is asked for",
        ),
        ({**STREAM, "proven_by": "empty range"}, "no record was scored yet; wait with on_idle='wait'"),
        ({**STREAM, "partitions": {}}, "it names no partition"),
        ({**BATCH, "shown": False, "outcome": "superseded"}, r"readers do not see these scores (superseded)"),
    ],
)
def test_a_verdict_that_is_none_proves_nothing(given, said):
    assert said in why(given)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "its manifest is not there"),
        ({**MANIFEST, "model": {"sha256": BAD}}, "its manifest is of 222222222222"),
        ({**MANIFEST, "model": "m"}, "its manifest is of no model"),
        ({**MANIFEST, "shadow": True}, "of a shadow"),
        ({**MANIFEST, "passed": False}, "did not pass their contract"),
        ({**MANIFEST, "rows": 0}, "no row was scored"),
    ],
)
def test_of_a_batch_its_manifest_has_the_word(manifest, said):
    assert said in why(BATCH, manifest)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sha256": OLD}, "it names sha256; no kind"),
        ({}, "it is empty"),
        (None, "it is empty"),
        ("sha256", "it is empty"),
        (
            {"uri": "s3://m", "rows": 5, "sha256": OLD},
            "of kind 'endpoint' it lacks max_difference, url, verified_at",
        ),
        (
            {name: one for name, one in STREAM.items() if name != "seen_at"},
            "of kind 'stream' it lacks seen_at",
        ),
        (MANIFEST, "it names model, passed, rows, shadow"),
    ],
)
def test_what_only_names_a_digest_is_refused(given, said):
    with pytest.raises(InvalidInput, match="of no kind that is known") as error:
        kind_of(given)
    assert said in error.value.message
    assert error.value.field == "proof"
