"""Drift of texts: descriptors that are compared as any column is, and the distance between the texts' embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import at_least, function, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]

Texts = Sequence[str]

#: Rows of a side whose embeddings are compared: the kernel matrix grows with its square.
SAMPLE_ROWS = 1_000
#: Shuffles behind a p-value.
ROUNDS = 400
_LANGUAGE_CHARACTERS = 500


def describe(texts: pd.Series, descriptors: Sequence[str] = ()) -> pd.DataFrame:
    """Describe texts by numbers and short texts.

    :param texts: shape (rows,).
    :param descriptors: names from :data:`DESCRIPTORS`, or ``"module:function"`` of a function from a text to a number or a
        short text, for example a judge's score; by default ``length``, ``words``, ``uppercase`` and ``digits``.
    :return: one column for each descriptor, with a null where the text is null.
    :raises InvalidInput: for an unknown descriptor, or values that are no text.
    :raises MissingExtra: if a descriptor's library is not installed.
    """
    import pandas as pd

    names = list(descriptors) or ["length", "words", "uppercase", "digits"]
    makers = {name.rpartition(":")[2]: _maker(name) for name in names}
    known = texts.notna()
    present = texts[known]
    wrong = next((value for value in present if not isinstance(value, str)), None)
    if wrong is not None:
        raise InvalidInput(
            f"column {texts.name!r} holds a {type(wrong).__name__} where text is expected",
            field="text",
            value=str(texts.name),
            remedy="Name a column of texts.",
        )
    # Texts repeat (canned answers, empty prompts): each is described once.
    distinct = present.drop_duplicates()
    found = {}
    for name, maker in makers.items():
        by_text = dict(zip(distinct, map(maker, distinct), strict=True))
        found[name] = texts.map(by_text, na_action="ignore")
    return pd.DataFrame(found, index=texts.index)


def _maker(name: str) -> Callable[[str], Any]:
    if ":" in name:
        return function(name, "descriptors")  # type: ignore[no-any-return]
    remedy = f'Use {", ".join(DESCRIPTORS)}, or "module:function".'
    one_of("descriptors", name, tuple(DESCRIPTORS), called="descriptor", remedy=remedy)
    return DESCRIPTORS[name]()


def _share(test: Callable[[str], bool]) -> Callable[[], Callable[[str], float]]:
    def share(text: str) -> float:
        return sum(map(test, text)) / len(text) if text else 0.0

    return lambda: share


def _language() -> Callable[[str], str]:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingExtra("py3langid", "text") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def language(text: str) -> str:
        found, probability = identifier.classify(text[:_LANGUAGE_CHARACTERS])
        # A word or two are of no certain language; a wrong guess there would look like drift.
        return str(found) if probability >= 0.7 else "unknown"

    return language


def _sentiment() -> Callable[[str], float]:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise MissingExtra("vaderSentiment", "text") from error
    analyser = SentimentIntensityAnalyzer()
    return lambda text: float(analyser.polarity_scores(text)["compound"])


#: Descriptor -> maker of the function from a text to its value. ``sentiment`` is for English: the compound score of VADER
#: (Hutto and Gilbert, ICWSM 2014), from -1 to 1.
DESCRIPTORS: dict[str, Callable[[], Callable[[str], Any]]] = {
    "length": lambda: len,
    "words": lambda: lambda text: len(text.split()),
    "uppercase": _share(str.isupper),
    "digits": _share(str.isdigit),
    "non_ascii": _share(lambda char: ord(char) > 127),
    "language": _language,
    "sentiment": _sentiment,
}


@dataclass(frozen=True)
class EmbeddingDrift(JsonForm):
    """How far two samples of embeddings are apart.

    :param mmd: squared maximum mean discrepancy with a Gaussian kernel; unbiased, so it may be a little below zero.
    :param p_value: share of shuffles at least as far apart.
    :param cosine: cosine distance of the two mean embeddings.
    :param rows: rows of each side in the sample.
    """

    mmd: float
    p_value: float
    cosine: float
    rows: tuple[int, int]


def embedding_drift(
    reference: Texts, current: Texts, *, embed: str | None = None, rows: int = SAMPLE_ROWS, seed: int = 0
) -> EmbeddingDrift:
    """Compare the embeddings of two samples of texts.

    The test is the kernel two-sample test of Gretton, Borgwardt, Rasch, Schölkopf and Smola (JMLR 13, 2012), with the median
    distance as bandwidth; its p-value comes from shuffling who belongs to which side.

    :param reference: texts of the reference; what is no text is left out.
    :param current: texts of the other side.
    :param embed: ``"module:function"`` from a list of texts to an array of shape (texts, dimensions); by default hashed
        character n-grams, which need no model and see wording, not meaning.
    :param rows: so many texts of each side at most, drawn with ``seed``.
    :param seed: of the draw and of the shuffles.
    :return: how far the two are apart.
    :raises InvalidInput: for fewer than 20 texts on a side, or embeddings of another shape.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    left, right = _drawn(reference, rows, random), _drawn(current, rows, random)
    for side, texts in (("reference", left), ("current", right)):
        remedy = "Comparing embeddings needs at least 20 on each side."
        at_least(side, len(texts), 20, f"{side} has {len(texts)} texts", remedy)
    vectors = _embedded([*left, *right], embed)
    return _two_sample(vectors, len(left), random)


def _drawn(texts: Texts, rows: int, random: Any) -> list[str]:
    known = [text for text in texts if isinstance(text, str)]
    if len(known) <= rows:
        return known
    return [known[index] for index in random.choice(len(known), rows, replace=False)]


def _embedded(texts: list[str], embed: str | None) -> Array:
    import numpy as np

    if embed is None:
        from sklearn.feature_extraction.text import HashingVectorizer

        hashed = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=4096)
        return np.asarray(hashed.transform(texts).toarray(), dtype=float)
    vectors: Array = np.asarray(function(embed, "embed")(texts), dtype=float)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise InvalidInput(
            f"embed returned an array of shape {vectors.shape} for {len(texts)} texts",
            field="embed",
            value=embed,
            remedy="Return one finite vector a text.",
        )
    return vectors


def _two_sample(vectors: Array, left: int, random: Any) -> EmbeddingDrift:
    import numpy as np

    total = len(vectors)
    norms = (vectors**2).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None, :] - 2 * vectors @ vectors.T, 0)
    middle = float(np.median(squares[np.triu_indices(total, 1)])) or 1.0
    kernel = np.exp(-squares / middle)
    np.fill_diagonal(kernel, 0.0)

    def discrepancies(sides: Array) -> Array:
        """One column a shuffle; 1 for the reference's rows."""
        m, n = left, total - left
        inside = np.einsum("ij,ij->j", sides, kernel @ sides)
        other = 1.0 - sides
        outside = np.einsum("ij,ij->j", other, kernel @ other)
        between = np.einsum("ij,ij->j", sides, kernel @ other)
        found: Array = inside / (m * (m - 1)) + outside / (n * (n - 1)) - 2 * between / (m * n)
        return found

    actual = np.zeros((total, 1))
    actual[:left] = 1.0
    shuffled = random.permuted(np.repeat(actual, ROUNDS, axis=1), axis=0)
    mmd = float(discrepancies(actual)[0])
    # The actual order counts as one of the shuffles, so that the p-value is never zero (Phipson and Smyth, 2010).
    p_value = (1 + int((discrepancies(shuffled) >= mmd - 1e-12).sum())) / (ROUNDS + 1)
    one, two = vectors[:left].mean(axis=0), vectors[left:].mean(axis=0)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
    cosine = 1.0 - float(one @ two) / lengths if lengths else 0.0
    return EmbeddingDrift(mmd, p_value, max(0.0, cosine), (left, total - left))
