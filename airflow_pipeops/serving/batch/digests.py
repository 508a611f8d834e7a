"""A digest of rows that does not depend on their order, on how they were cut into batches, or on what read them.

Each row is hashed twice to 64 bits, and the hashes are summed: the digest of two parts is had from the sums of both. It
tells rows apart that differ by accident, which is what a retry or a corrected partition needs; it is no defence against
somebody who looks for two tables of one digest. The files of an output have their SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.serialisation import JsonForm

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Hashes = np.ndarray[Any, np.dtype[np.uint64]]

#: Of the form below; a reader of another one cannot compare.
FORM = "rows/v1"
_LANES = ("pipeops-batch-a.", "pipeops-batch-b.")
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Tally(JsonForm):
    """Rows that were taken in.

    :param rows: how many.
    :param sums: of the two hashes of each row, modulo 2^64, in hex.
    """

    rows: int = 0
    sums: tuple[str, ...] = ("0", "0")

    def plus(self, other: Tally) -> Tally:
        """Return the tally of both parts."""
        added = (int(a, 16) + int(b, 16) & _MASK for a, b in zip(self.sums, other.sums, strict=True))
        return Tally(self.rows + other.rows, tuple(f"{one:x}" for one in added))

    def digest(self, types: tuple[tuple[str, str], ...]) -> str:
        """Return the digest.

        :param types: name and type of each column.
        :return: 64 hex digits.
        """
        named = ";".join(f"{name}:{kind}" for name, kind in sorted(types))
        return hashlib.sha256(f"{FORM}\n{named}\n{self.rows}\n{' '.join(self.sums)}".encode()).hexdigest()


def tally(batch: pa.RecordBatch) -> Tally:
    """Take rows in.

    :param batch: of the types that :mod:`~airflow_pipeops.serving.batch.rows` makes.
    :return: their tally.
    """
    import numpy as np

    if not batch.num_rows:
        return Tally()
    order = sorted(range(batch.num_columns), key=lambda place: str(batch.schema.names[place]))
    sums = []
    for lane in _LANES:
        whole = np.zeros(batch.num_rows, dtype=np.uint64)
        for place in order:
            seed = int.from_bytes(
                hashlib.sha256((lane + batch.schema.names[place]).encode()).digest()[:8], "big"
            )
            whole = _mixed(whole + _hashed(batch.column(place), lane) ^ np.uint64(seed))
        sums.append(f"{int(whole.sum(dtype=np.uint64)):x}")
    return Tally(batch.num_rows, tuple(sums))


def _hashed(column: pa.Array, lane: str) -> Hashes:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        column = column.cast(pa.int32() if pa.types.is_date32(kind) else pa.int8()).cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    absent = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    if pa.types.is_string(column.type):
        codes = column.dictionary_encode()
        texts = codes.dictionary.to_numpy(zero_copy_only=False)
        of_text = _texts(texts, lane)
        places = pc.fill_null(codes.indices, 0).to_numpy(zero_copy_only=False)
        found = of_text[places] if len(of_text) else np.zeros(len(column), dtype=np.uint64)
    else:
        values = pc.fill_null(column, 0) if column.null_count else column
        numbers = values.to_numpy(zero_copy_only=False)
        if numbers.dtype == np.float64:
            numbers = numbers + 0.0  # minus zero is zero
        found = _mixed(np.ascontiguousarray(numbers).view(np.uint64))
    return found if absent is None else np.where(absent, np.uint64(0x9E3779B97F4A7C15), found)


def _texts(texts: Any, lane: str) -> Hashes:
    import numpy as np
    from pandas.util import hash_array

    if not len(texts):
        return np.zeros(0, dtype=np.uint64)
    found: Hashes = hash_array(texts.astype(object), hash_key=lane, categorize=False)
    return found


def _mixed(values: Hashes) -> Hashes:
    """Spread each bit over all of them (SplitMix64)."""
    import numpy as np

    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
