"""A profile stands for data that may be gone: it gives the same verdicts, and whatever was done to its file is noticed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_pipeops.drift import profile as profiles
from airflow_pipeops.drift.comparison import Engine
from airflow_pipeops.drift.engine import compare, profile
from airflow_pipeops.drift.profile import Profile
from airflow_pipeops.drift.settings import Settings
from airflow_pipeops.drift.sources import Files, Frame
from airflow_pipeops.exceptions import InvalidInput
from tests.drift.adversarial import ROWS, table

NAMES = ["normal", "outlier", "odd", "nulls", "single", "big", "text", "flag", "day", "group"]


@pytest.fixture(scope="module")
def made() -> Profile:
    return profile(Frame(table(0).select(NAMES), name="train"), model_version="churn/7")


def test_the_reference_may_be_gone(tmp_path: Path) -> None:
    reference, current = tmp_path / "reference.parquet", Frame(table(1, 1.0).select(NAMES))
    pq.write_table(table(0).select(NAMES), reference)
    expected = compare(Files(str(reference)), current)
    digest = profile(Files(str(reference)), model_version="churn/7").save(
        str(tmp_path / "p" / "churn.profile")
    )
    reference.unlink()
    saved = Profile.load(str(tmp_path / "p" / "churn.profile"), digest=digest)
    found = compare(saved, current)
    assert [(i.column, i.verdict) for i in found.columns] == [(i.column, i.verdict) for i in expected.columns]
    assert [i.score for i in found.columns] == pytest.approx([i.score for i in expected.columns], rel=1e-12)
    assert found.reference["kind"] == "profile"
    assert (found.reference["digest"], found.reference["model_version"]) == (digest, "churn/7")
    assert found.reference["data_digest"] == expected.reference["data_digest"]
    assert found.reference["source"]["name"] == "reference.parquet"
    json.dumps(found.to_json(), allow_nan=False)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["churn.profile"]


def test_what_is_read_is_what_was_written(made: Profile) -> None:
    again = Profile.from_bytes(made.to_bytes())
    assert again.digest == made.digest
    assert again.data_digest == made.data_digest
    assert (again.schema, again.kinds, again.rows, again.maps) == (
        made.schema,
        made.kinds,
        made.rows,
        made.maps,
    )
    for name, aggregate in made.columns[""].items():
        other = again.columns[""][name]
        assert other.header() == aggregate.header()
        for key, values in aggregate.arrays().items():
            assert (other.arrays()[key] == values).all()


def test_another_model_of_the_same_data_is_another_profile(made: Profile) -> None:
    other = made.with_model("churn/8")
    assert other.data_digest == made.data_digest
    assert other.digest != made.digest


def test_other_data_have_another_digest(made: Profile) -> None:
    one = table(0).select(NAMES).slice(1)
    assert profile(Frame(one)).data_digest != made.data_digest
    assert profile(Frame(table(0).select(NAMES))).data_digest == made.data_digest


@pytest.mark.parametrize(
    "change", ["bit", "truncated", "text", "empty", "version", "count", "missing part", "pickle"]
)
def test_whatever_was_done_to_the_file_is_noticed(change: str, made: Profile, monkeypatch) -> None:
    content = made.to_bytes()
    if change == "bit":
        content = content[:3000] + bytes([content[3000] ^ 1]) + content[3001:]
    elif change == "truncated":
        content = content[:-500]
    elif change == "text":
        content = b"a profile, honestly"
    elif change == "empty":
        content = b""
    elif change == "version":
        monkeypatch.setattr(profiles, "VERSION", 2)
    else:
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        if change == "count":
            name = next(name for name in arrays if name.endswith("_count"))
            arrays[name] = arrays[name] + 1
        elif change == "missing part":
            del arrays[next(name for name in arrays if name.endswith("_low"))]
        else:
            arrays["a0_key"] = np.array([print], dtype=object)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
    with pytest.raises(InvalidInput, match="the profile cannot be used") as caught:
        Profile.from_bytes(content)
    assert caught.value.field == "profile"


def test_a_file_that_would_fill_the_memory_is_refused() -> None:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("header.npy", "w") as stream,
    ):
        for _ in range(1100):
            stream.write(b"\x00" * (1 << 20))
    assert len(buffer.getvalue()) < 2 << 20
    with pytest.raises(InvalidInput, match="unpacks to more than"):
        Profile.from_bytes(buffer.getvalue())


def test_the_wrong_profile_is_refused(made: Profile, tmp_path: Path) -> None:
    made.save(str(tmp_path / "a.profile"))
    with pytest.raises(InvalidInput, match="and not the expected 000000000000"):
        Profile.load(str(tmp_path / "a.profile"), digest="0" * 64)


def test_a_profile_of_another_schema(made: Profile) -> None:
    current = table(1).select(["nulls", "odd", "single", "big", "flag", "day", "group"])
    current = current.append_column("text", current["nulls"]).append_column("new", current["nulls"])
    found = {item.column: item.verdict for item in compare(made, Frame(current)).columns}
    assert found == {
        "normal": "missing",
        "outlier": "missing",
        "odd": "no drift",
        "nulls": "no drift",
        "single": "no drift",
        "big": "no drift",
        "text": "retyped",
        "flag": "no drift",
        "day": "no drift",
        "group": "no drift",
        "new": "extra",
    }
    with pytest.raises(InvalidInput, match="no column in common"):
        compare(made, Frame(pa.table({"z": [1.0]})))


def test_a_profile_that_was_measured_in_another_way_is_refused(made: Profile) -> None:
    current = Frame(table(1).select(NAMES))
    with pytest.raises(InvalidInput, match="measured 'big' as numerical, and it is asked for as categorical"):
        compare(made, current, columns={"big": "categorical"})
    with pytest.raises(InvalidInput, match="no segments by 'group'"):
        compare(made, current, segment_by="group")
    with pytest.raises(InvalidInput, match="thresholds names 'nope'"):
        compare(made, current, settings=Settings(thresholds={"nope": 0.1}))
    part = profile(Frame(table(0).select(NAMES)), columns={"normal": "", "text": ""})
    with pytest.raises(InvalidInput, match="did not measure 'odd'"):
        compare(part, current, columns={"odd": ""})
    assert [item.column for item in compare(part, current).columns] == ["normal", "text"]


def test_the_profile_says_how_fine_and_how_capped(made: Profile) -> None:
    coarse = profile(Frame(table(0).select(NAMES)), engine=Engine(resolution=256, categories=5))
    found = compare(coarse, Frame(table(1).select(NAMES)))
    assert (found.settings["resolution"], found.settings["categories"]) == (256, 5)
    assert coarse.columns[""]["text"].capped


def test_segments_are_in_the_profile(tmp_path: Path) -> None:
    names = {"normal": "", "text": ""}
    segmented = profile(Frame(table(0)), columns=names, segment_by="group")
    segmented.save(tmp_path / "a.profile")
    loaded = Profile.load(tmp_path / "a.profile")
    assert loaded.rows["x"] + loaded.rows["y"] == loaded.rows[""] == ROWS
    found = compare(loaded, Frame(table(1)), columns=names, segment_by="group")
    assert {item.segment for item in found.columns} == {"", "x", "y"}
    assert {item.segment for item in compare(loaded, Frame(table(1)), columns=names).columns} == {""}


def test_nothing_can_be_measured() -> None:
    with pytest.raises(InvalidInput, match="no column of the source can be measured"):
        profile(Frame(pa.table({"list": pa.array([[1], [2]])})))
    with pytest.raises(InvalidInput, match="'x' are in neither"):
        profile(Frame(pa.table({"y": [1.0]})), columns={"x": ""})
