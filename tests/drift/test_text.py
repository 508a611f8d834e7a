"""Descriptors and the embedding test, on texts that are known to differ or not."""

from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.drift.text import DESCRIPTORS, describe, embedding_drift
from airflow_pipeops.exceptions import InvalidInput

WEATHER = ["rain", "wind", "snow", "sun", "fog", "hail", "storm", "cloud", "heat", "frost", "thunder", "mist"]
FINANCE = ["bond", "stock", "yield", "loan", "credit", "rate", "fund", "equity", "hedge", "margin", "swap"]


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(words, k=8)) for _ in range(count)]


def test_each_descriptor_says_what_it_is() -> None:
    texts = pd.Series(["Hello World 12", "", "I love this, it is wonderful!", None], name="prompt")
    found = describe(texts, ["length", "words", "uppercase", "digits", "non_ascii", "sentiment"])
    assert list(found["length"][:3]) == [14, 0, 29]
    assert list(found["words"][:3]) == [3, 0, 6]
    assert found["uppercase"][0] == pytest.approx(2 / 14)
    assert found["digits"][0] == pytest.approx(2 / 14)
    assert found["non_ascii"][0] == 0
    assert found["sentiment"][2] > 0.8
    assert found["sentiment"][0] == 0
    assert found.loc[3].isna().all()


def test_languages_are_told_apart_and_a_fragment_is_unknown() -> None:
    texts = pd.Series(
        [
            "The delivery was late again and nobody answered the telephone.",
            "Die Lieferung kam wieder zu spät und niemand ging ans Telefon.",
            "La livraison est encore arrivée en retard et personne n'a répondu.",
            "ok",
        ]
    )
    assert list(describe(texts, ["language"])["language"]) == ["en", "de", "fr", "unknown"]


def test_a_function_of_ones_own() -> None:
    found = describe(pd.Series(["a b", "c"]), ["tests.drift.test_text:spaces", "length"])
    assert list(found.columns) == ["spaces", "length"]
    assert list(found["spaces"]) == [1, 0]


def spaces(text: str) -> int:
    return text.count(" ")


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InvalidInput, match=f"Use {', '.join(DESCRIPTORS)}"):
        describe(pd.Series(["a"]), ["magic"])
    with pytest.raises(InvalidInput, match="column 'price' holds a int"):
        describe(pd.Series([1, 2], name="price"))
    with pytest.raises(InvalidInput, match="reference has 3 texts"):
        embedding_drift(["a", "b", "c"], sentences(WEATHER, 50, 1))
    with pytest.raises(InvalidInput, match="one finite vector a text"):
        embedding_drift(
            sentences(WEATHER, 30, 1), sentences(WEATHER, 30, 2), embed="tests.drift.test_text:flat"
        )


def flat(texts: list[str]) -> list[float]:
    return [0.0 for _ in texts]


def test_another_topic_is_drift_and_the_same_topic_is_not() -> None:
    same = embedding_drift(sentences(WEATHER, 300, 1), sentences(WEATHER, 200, 2))
    other = embedding_drift(sentences(WEATHER, 300, 1), sentences(FINANCE, 200, 2))
    assert other.p_value == pytest.approx(1 / 401)
    assert other.cosine > 5 * same.cosine
    assert same.p_value > 0.01
    assert same.rows == (300, 200)


def counts(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(word) for word in WEATHER] for text in texts], float)


def test_false_alarms_are_as_rare_as_the_p_value_says() -> None:
    rounds, level = 120, 0.1
    alarms = 0
    for seed in range(rounds):
        left, right = sentences(WEATHER, 40, 2 * seed), sentences(WEATHER, 40, 2 * seed + 1)
        found = embedding_drift(left, right, embed="tests.drift.test_text:counts", seed=seed)
        alarms += found.p_value <= level
    # Binomial, four standard deviations.
    assert alarms <= rounds * level + 4 * math.sqrt(rounds * level * (1 - level))
    assert alarms >= 1


def test_the_sample_is_the_same_for_the_same_seed() -> None:
    left, right = sentences(WEATHER, 500, 1), sentences(FINANCE[:3] + WEATHER, 500, 2)
    one = embedding_drift(left, right, rows=100, seed=3)
    assert one == embedding_drift(left, right, rows=100, seed=3)
    assert one.rows == (100, 100)
    assert embedding_drift(left, left[:400], rows=400).p_value > 0.05
