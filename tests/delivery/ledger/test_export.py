"""What an auditor is given: checked by the one file that is in it, and by the tools of others."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from airflow_pipeops.delivery.ledger.attestations import (
    OWN,
    PROVENANCE,
    SUMMARY,
    TEST_RESULT,
    VERIFICATION,
    summary,
)
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.export import Exported, export
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.signatures import Signer
from airflow_pipeops.exceptions import InvalidInput, NotFound
from tests.delivery.ledger.events import entry, record

KEY = Ed25519PrivateKey.from_private_bytes(b"2" * 32)
SIGNER = Signer("pipeops.example.com", KEY)
SHA, DIGEST, MODEL = "c" * 40, "d" * 64, "e" * 64
IMAGE = f"r.example.com/shop@sha256:{DIGEST}"


def story() -> list[Entry]:
    """A commit that is tested, built and released; a model that is judged; and what went otherwise."""
    commit = record(
        "commit", "shop", body={"commit": SHA, "repository": "https://git.example.com/shop"}, commit=SHA
    )
    tests = record(
        "validation", "shop", commit=SHA, parents=(commit.id,),
        body={"subject": "tests", "commit": SHA, "test-result": {"result": "WARNED", "failedTests": ["a"]}},
    )  # fmt: skip
    data = record(
        "validation", "shop", body={"subject": "data", "passed": False, "batch": "may", "digest": MODEL}
    )
    image = record(
        "image", "shop", commit=SHA, parents=(tests.id,),
        body={"reference": IMAGE, "commit": SHA, "bases": [f"python@sha256:{MODEL}", "scratch"]},
    )  # fmt: skip
    model = record(
        "model", "shop", body={"name": "delay", "version": 3, "sha256": MODEL, "data_digest": DIGEST}
    )
    gate = record(
        "evaluation", "shop", body={"promote": True, "challenger_sha256": MODEL}, parents=(model.id,)
    )
    drift = record("drift", "shop", body={"share": 0.5})
    release = record("release", "shop", body={"images": [IMAGE]}, parents=(image.id,))
    lost = record("release", "shop", body={"images": [IMAGE], "n": 2}, parents=(image.id, "9" * 64))
    apart = record("differences", "shop", body={"verdict": "drift", "reason": "=somebody scaled it"})
    made = [commit, tests, data, image, model, gate, drift, release, lost, apart]
    entries = [entry(one, number) for number, one in enumerate(made, 1)]
    posted = {**record("release", "shop", body={"n": "by hand"}).to_extra(), "from_rest_api": True}
    return [*entries, entry(release, 11, extra=posted, task=None)]


@pytest.fixture
def exported(ledger: Ledger, tmp_path: Path) -> tuple[Path, Exported]:
    """The story on the second of July, with hundreds of entries before and behind."""
    before = [
        entry(record(body={"n": n}), n, stored="2026-07-01T12:00:00.000000+00:00") for n in range(1, 300)
    ]
    middle = [
        Entry(**{**one.__dict__, "event": one.event + 1000, "stored": "2026-07-02T12:00:00.000000+00:00"})
        for one in story()
    ]
    after = [
        entry(record(body={"n": n}), n, stored="2026-07-03T12:00:00.000000+00:00") for n in range(2000, 2300)
    ]
    numbered = ledger.append([*before, *middle, *after], ledger.head())
    index = Index.open(tmp_path / "index.db")
    index.add(numbered)
    path = tmp_path / "export.zip"
    found = export(ledger, index, SIGNER, path, start="2026-07-02", end="2026-07-03T00:00:00Z")
    index.close()
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as file:
        file.extractall(folder)
    return folder, found


def verified(folder: Path, *key: str) -> tuple[int, str]:
    # Without the packages of this project on its path: -I, and a program that imports one of them would say so.
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "verify.py"), *key], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_the_one_file_finds_it_as_it_was_signed(exported) -> None:
    folder, found = exported
    assert (found.entries, found.first, found.last) == (11, 300, 310)
    assert verified(folder, str(SIGNER.public))[0] == 0
    status, said = verified(folder)
    assert (status, "11 entries, 300 to 310 of 610, 12 statements" in said, "2 proofs" in said) == (
        0,
        True,
        True,
    )
    assert "airflow" not in (folder / "verify.py").read_text().replace("airflow-pipeops", "")


def change_entry(folder: Path) -> None:
    path = folder / "entries.jsonl"
    path.write_text(path.read_text().replace('"share":0.5', '"share":0.1'))


def drop_entry(folder: Path) -> None:
    path = folder / "entries.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4] + lines[5:]))


def drop_last(folder: Path) -> None:
    path = folder / "entries.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change_statement(folder: Path) -> None:
    path = next((folder / "statements").glob("*-drift.json"))
    path.write_text(path.read_text().replace('"payload": "e', '"payload": "f'))


def swap_statements(folder: Path) -> None:
    one, other = (
        next((folder / "statements").glob("*-drift.json")),
        next((folder / "statements").glob("*-model.json")),
    )
    one.write_text(other.read_text())


def change_proof(folder: Path) -> None:
    path = next((folder / "proofs").iterdir())
    path.write_text(path.read_text().replace("index 3", "index 2"))


def change_checkpoint(folder: Path) -> None:
    path = folder / "checkpoint"
    path.write_text(path.read_text().replace("610", "611"))


def change_index(folder: Path) -> None:
    path = folder / "index.csv"
    path.write_text(path.read_text() + "311," + "f" * 64 + ",release\n")


@pytest.mark.parametrize(
    "act",
    [
        change_entry,
        drop_entry,
        drop_last,
        change_statement,
        swap_statements,
        change_proof,
        change_checkpoint,
        change_index,
    ],
)
def test_the_one_file_finds_what_was_changed(exported, act) -> None:
    folder, _ = exported
    act(folder)
    status, said = verified(folder)
    assert status == 1, said
    assert "NOT AS IT WAS SIGNED" in said


def test_a_key_of_others_is_not_the_one(exported) -> None:
    stranger = Signer(SIGNER.name, Ed25519PrivateKey.generate())
    assert verified(exported[0], str(stranger.public))[0] == 1


def statements(folder: Path) -> dict[str, list[dict]]:
    key = SSlibKey.from_crypto(KEY.public_key(), keyid=SIGNER.public.id)
    found: dict[str, list[dict]] = {}
    for path in sorted((folder / "statements").iterdir()):
        envelope = Envelope.from_dict(json.loads(path.read_text()))
        envelope.verify([key], 1)
        found.setdefault(path.stem.split("-")[1], []).append(json.loads(envelope.payload))
    return found


def test_records_become_statements_of_the_standard_forms(exported) -> None:
    found = statements(exported[0])
    assert all(
        one["_type"] == "https://in-toto.io/Statement/v1"
        and one["subject"]
        and all(item["digest"] for item in one["subject"])
        for several in found.values()
        for one in several
    )
    (image,), (model,) = found["image"], found["model"]
    assert (image["predicateType"], image["subject"]) == (
        PROVENANCE, [{"name": "r.example.com/shop", "digest": {"sha256": DIGEST}}],
    )  # fmt: skip
    build = image["predicate"]["buildDefinition"]
    assert {"buildType", "externalParameters"} <= set(build)
    digests = [item["digest"] for item in build["resolvedDependencies"]]
    assert digests[:2] == [{"gitCommit": SHA}, {"sha256": MODEL}]
    assert image["predicate"]["runDetails"]["builder"]["id"] == "https://pipeops.example.com/pipeops"
    assert model["subject"] == [{"name": "delay/3", "digest": {"sha256": MODEL}}]
    tests, data = found["validation"]
    assert (tests["predicateType"], tests["subject"][0]["digest"]) == (TEST_RESULT, {"gitCommit": SHA})
    assert (tests["predicate"]["result"], tests["predicate"]["failedTests"]) == ("WARNED", ["a"])
    assert data["predicateType"].endswith("records.md#validation")  # it has not passed: nothing was verified
    (gate,) = found["evaluation"]
    assert (gate["predicateType"], gate["predicate"]["properties"]) == (
        VERIFICATION,
        ["PIPEOPS_EVALUATION_EVALUATION_PASSED"],
    )
    assert gate["predicate"][OWN]["kind"] == "evaluation"
    (drift,) = found["drift"]
    assert drift["subject"][0]["digest"]["sha256"] == drift["predicate"]["id"]


def test_a_summary_passes_only_where_all_is_known(exported) -> None:
    good, lost = statements(exported[0])["summary"]
    assert good["predicateType"] == SUMMARY
    assert good["predicate"]["verificationResult"] == "PASSED"
    assert len(good["predicate"]["inputAttestations"]) == 3
    assert (lost["predicate"]["verificationResult"], lost["predicate"]["pipeopsMissing"]) == (
        "FAILED",
        ["9" * 64],
    )
    assert lost["predicate"]["verifiedLevels"] == []


@pytest.mark.parametrize(("passed", "result"), [(True, "PASSED"), (False, "FAILED"), (None, "FAILED")])
def test_a_gate_that_cannot_tell_opens_no_summary(passed: bool | None, result: str) -> None:
    skew = record("validation", "shop", body={"subject": "skew", "passed": passed})
    image = record("image", "shop", body={"reference": IMAGE}, parents=(skew.id,))
    release = record("release", "shop", body={"images": [IMAGE]}, parents=(image.id,))
    last, *before = (entry(one, number) for number, one in enumerate((release, image, skew), 1))
    found = summary(last, before, [], "https://example.com")
    assert found is not None
    assert found["predicate"]["verificationResult"] == result
    assert found["predicate"]["pipeopsUnknown"] == ([skew.id] if passed is None else [])


def test_what_wants_an_explanation_is_listed(exported) -> None:
    with (exported[0] / "exceptions.csv").open(newline="") as file:
        rows = [(int(row["seq"]), row["what"]) for row in csv.DictReader(file)]
    assert rows == [
        (308, f"it was made from record {'9' * 64}, which nobody holds"),
        (309, "live state differed from the desired state: =somebody scaled it"),
        (310, "not believed: it was posted through Airflow's API"),
    ]


def test_a_name_is_no_formula_of_a_spreadsheet(ledger: Ledger, tmp_path: Path) -> None:
    index = Index.open(tmp_path / "index.db")
    index.add(ledger.append([entry(record(deliverable="=cmd()"), 1)], ledger.head()))
    export(ledger, index, SIGNER, tmp_path / "x.zip", start="2026-01-01", end="2027-01-01")
    index.close()
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        assert "'=cmd()" in file.read("index.csv").decode()


@pytest.mark.parametrize("ident", [None, "", 7, "=cmd()", "\tx", "x" * 200, "\ud800", 'a,"b"\nc'])
def test_an_event_with_whatever_id_is_as_it_was_signed(ledger: Ledger, tmp_path: Path, ident: object) -> None:
    posted = entry(record(), 1, extra={"from_rest_api": True, "id": ident}, task=None)
    index = Index.open(tmp_path / "index.db")
    index.add(ledger.append([posted, entry(record("commit"), 2)], ledger.head()))
    export(ledger, index, SIGNER, tmp_path / "x.zip", start="2026-01-01", end="2027-01-01")
    index.close()
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        file.extractall(tmp_path / "unpacked")
    assert verified(tmp_path / "unpacked", str(SIGNER.public)) == (
        0,
        f"2 entries, 1 to 2 of 2, 1 statements and\n0 proofs are as they were signed by {SIGNER.name}.\n",
    )
    with (tmp_path / "unpacked" / "index.csv").open(encoding="utf-8", newline="") as file:
        assert [row["environment"] for row in csv.DictReader(file)] == ["", ""]


def test_what_cannot_be_exported_is_said(ledger: Ledger, tmp_path: Path) -> None:
    index = Index.open(tmp_path / "index.db")
    with pytest.raises(InvalidInput, match="there is no key"):
        export(ledger, index, None, tmp_path / "x.zip", start="2026-01-01", end="2026-02-01")
    with pytest.raises(InvalidInput, match="is no time"):
        export(ledger, index, SIGNER, tmp_path / "x.zip", start="yesterday", end="2026-02-01")
    with pytest.raises(NotFound):
        export(ledger, index, SIGNER, tmp_path / "x.zip", start="2026-01-01", end="2026-02-01")
    index.close()
