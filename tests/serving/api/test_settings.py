"""The environment of the server, checked before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.api.settings import settings

SHA = "0" * 64
ONE = {"MODEL_URI": "x", "MODEL_SHA256": SHA, "MODEL_NAME": "x", "MODEL_VERSION": "1"}


def entry(version: str = "1", **changes) -> dict:
    return {"name": "delay", "version": version, "uri": "s3://b/delay", "sha256": SHA, **changes}


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "MODEL_URI is not set"),
        ({"MODEL_URI": "x", "MODEL_SHA256": " "}, "MODEL_SHA256 is not set"),
        ({**ONE, "PORT": "70000"}, "PORT is '70000'"),
        ({**ONE, "MODEL_SHA256": "none"}, "MODEL_SHA256 'none' is not a SHA-256"),
        ({**ONE, "MODEL_NAME": "a/b"}, "MODEL_NAME 'a/b' is not a name"),
        ({**ONE, "MODEL_AT_ONCE": "0"}, "MODEL_AT_ONCE is '0'"),
        ({**ONE, "MODEL_SECONDS": "٣"}, "MODEL_SECONDS is"),
        ({**ONE, "SAMPLE_SHARE": "0.5"}, "SAMPLE_SHARE is set, and SAMPLE_URI is not"),
        ({**ONE, "SAMPLE_URI": "s3://b", "SAMPLE_SHARE": "nan"}, "SAMPLE_SHARE is 'nan'"),
        ({**ONE, "SAMPLE_URI": "s3://b", "SAMPLE_SHARE": "2"}, "SAMPLE_SHARE is '2'"),
        ({**ONE, "SAMPLE_URI": "s3://b", "SAMPLE_LEAVEOUT": "name"}, "SAMPLE_LEAVEOUT means nothing"),
        ({**ONE, "SAMPLE_URI": "s3://b", "SAMPLE_HELD_ROWS": "5"}, "SAMPLE_HELD_ROWS is '5'"),
        ({**ONE, "MODELS_FILE": "x"}, "MODELS_FILE and MODEL_URI are both set"),
        ({"MODELS_FILE": "/nowhere/models.yaml"}, "/nowhere/models.yaml cannot be read"),
    ],
)
def test_settings_that_are_missing_or_wrong(environment, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        settings(environment)
    assert caught.value.field


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[", "cannot be read"),
        ("- 1", "MODELS_FILE is not a mapping"),
        ({"models": [], "other": 1}, "has the keys models, other"),
        ({"models": []}, "models lists no models"),
        ({"models": [1]}, r"models\[0\] is not a mapping"),
        ({"models": [entry(name="")]}, r"models\[0\]\.name is not set"),
        ({"models": [entry(digest="x")]}, "unknown key 'digest'"),
        ({"models": [entry(role="canary")]}, r"models\[0\]\.role is 'canary'"),
        ({"models": [entry(version="../7")]}, "'../7' is not a name"),
        ({"models": [entry(), entry(role="beside")]}, "delay version 1 twice"),
        ({"models": [entry(), entry("2")]}, r"2 versions \(1, 2\) are the default"),
        ({"models": [entry(role="beside")]}, r"0 versions \(none\) are the default"),
        ({"models": [entry(), entry("2", role="shadow")]}, "SAMPLE_URI is not set"),
    ],
)
def test_a_file_of_models_that_is_wrong(content, why, tmp_path: Path):
    file = tmp_path / "models.yaml"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InvalidInput, match=why):
        settings({"MODELS_FILE": str(file)})


def test_versions_of_several_models_have_their_roles(tmp_path: Path):
    file = tmp_path / "models.yaml"
    listed = [entry(version=7), entry("8", role="beside"), entry("9", role="shadow"), entry(name="fare")]
    file.write_text(json.dumps({"models": listed}))
    found = settings({"MODELS_FILE": str(file), "SAMPLE_URI": "s3://b", "SAMPLE_LEAVE_OUT": "name, mail,"})
    assert [(one.name, one.version, one.role) for one in found.models] == [
        ("delay", "7", "default"),
        ("delay", "8", "beside"),
        ("delay", "9", "shadow"),
        ("fare", "1", "default"),
    ]
    assert found.sampling is not None
    assert found.sampling.left_out == ("name", "mail")
