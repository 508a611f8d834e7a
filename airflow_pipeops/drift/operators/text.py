"""Compare texts: prompts, answers, tickets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import not_empty, one_or_more
from airflow_pipeops.drift.operators.comparison import ComparisonOperator

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.drift.comparison import Comparison
    from airflow_pipeops.drift.sources import Source

#: Texts of a side that are described: each one costs a language model or a lexicon a look.
SAMPLE_TEXTS = 20_000


class TextDriftOperator(ComparisonOperator):
    """Compare a column of texts by descriptors, and by the distance of their embeddings, on a sample.

    Each descriptor is compared as any column is; the record and the result hold no text. The result also has ``embedding``:
    ``{mmd, p_value, cosine, rows}``, where a small ``p_value`` says that the texts as a whole have moved.

    :param text: the column.
    :param descriptors: names from :data:`~airflow_pipeops.drift.text.DESCRIPTORS`, or ``"module:function"`` from a text to a
        number or short text, for example a judge's score.
    :param embed: ``"module:function"`` from a list of texts to an array of vectors; by default hashed character n-grams;
        ``""`` leaves the embeddings out.
    :param sample: so many texts of each side at most.
    """

    subject = "texts"

    def __init__(
        self,
        *,
        text: str,
        descriptors: Sequence[str] = ("length", "words", "language", "sentiment"),
        embed: str | None = None,
        sample: int = SAMPLE_TEXTS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.text = not_empty("text", text, "text names no column", "Name the column.")
        self.descriptors = list(one_or_more("descriptors", descriptors, str))
        self.embed = embed
        self.sample = sample
        self._embedding: dict[str, Any] = {}

    def sides(self) -> tuple[Source, Source]:
        """Return the descriptors of both sides; the texts go no further."""
        from airflow_pipeops.drift.sources import Frame
        from airflow_pipeops.drift.text import describe, embedding_drift

        sides = []
        texts = []
        for source, field in zip(super().sides(), ("reference", "current"), strict=True):
            frame = self._read(source, field)
            texts.append(list(frame[self.text]))
            sides.append(Frame(describe(frame[self.text], self.descriptors), name=str(source.name)))
        if self.embed != "":
            found = embedding_drift(*texts, embed=self.embed)
            self._embedding = found.to_json()
            self.log.info("The embeddings are %s apart (p %s)", found.mmd, found.p_value)
        return sides[0], sides[1]

    def facts(self, found: Comparison) -> dict[str, Any]:
        """Add the embeddings' distance."""
        return {**super().facts(found), "embedding": self._embedding}

    def result(self, found: Comparison) -> Mapping[str, Any]:
        """Add the embeddings' distance."""
        return {**super().result(found), "embedding": self._embedding}

    def _read(self, source: Source, field: str) -> pd.DataFrame:
        from airflow_pipeops.drift.engines.rows import read_rows

        spark = self.options().spark
        return read_rows(source, field, columns=[self.text], sample=self.sample, spark=spark)
