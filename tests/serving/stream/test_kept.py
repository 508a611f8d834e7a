"""What of the topic of scores is kept, and as what; without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_pipeops.serving.stream.kept import scored_in

SHA256 = "a" * 64
SAID = {"model": "demo/2", "model-sha": SHA256, "rev": "r2", "src": "in/0/7"}


@dataclass
class Message:
    """A record as the client gives it."""

    content: bytes | None = b'{"probability": 0.25}'
    said: dict[str, Any] = field(default_factory=lambda: dict(SAID))
    name: bytes | None = b"k"

    def value(self) -> bytes | None:
        return self.content

    def key(self) -> bytes | None:
        return self.name

    def headers(self) -> list[tuple[str, bytes]]:
        return [(name, value.encode()) for name, value in self.said.items()]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


def test_a_score_is_kept_with_its_model_and_the_time_of_its_record():
    kind, scored = scored_in(Message(), "key") or ((), None)
    assert kind == ("demo", "2", SHA256, ("probability",))
    assert scored is not None
    assert (scored.request_id, scored.at, scored.outputs) == ("k", 1_700_000_000_000, {"probability": [0.25]})
    for message, by in ((Message(), "source"), (Message(name=None), "key")):
        _, scored = scored_in(message, by) or ((), None)
        assert scored is not None
        assert scored.request_id == "in/0/7"


def test_records_of_other_outputs_are_of_another_file():
    kinds = {
        (scored_in(Message(content), "key") or ("",))[0] for content in (b'{"a": 1}', b'{"a": 1, "b": 2}')
    }
    assert {kind[-1] for kind in kinds} == {("a",), ("a", "b")}


@pytest.mark.parametrize(
    "message",
    [
        Message(None),
        Message(b"no score"),
        Message(b"{}"),
        Message(b"[1]"),
        Message(b'{"probability": null}'),
        Message(b'{"probability": NaN}'),
        Message(b'{"probability": true}'),
        Message(b'{"probability": 1' + b"0" * 400 + b"}"),
        Message(b"[" * 100_000),
        Message(b'{"probability": 0.5, "at": 1}'),
        Message(said={}),
        Message(said={**SAID, "src": ""}),
        Message(said={**SAID, "model": "demo"}),
        Message(said={**SAID, "model": "../../elsewhere/2"}),
        Message(said={**SAID, "model": "demo/.."}),
        Message(said={**SAID, "model-sha": "a" * 63}),
    ],
)
def test_what_no_stream_of_ours_has_written_is_not_kept_and_names_no_path(message):
    assert scored_in(message, "key") is None
