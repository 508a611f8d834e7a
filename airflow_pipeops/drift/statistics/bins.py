"""Where the cells and bins of a numeric column lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Fine bins by default: enough that Wasserstein's certified interval is some 1e-5 wide.
RESOLUTION = 65536


def affine(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Choose the map ``z = (x - centre) / scale`` from a sample of the reference.

    Any map is right; this one puts most cells where most values are. Median and quartiles, since one outlier would move
    mean and deviation so far that all values fell into one cell. The scale is a power of two: dividing by it is exact,
    so every engine that adds in doubles computes the same ``z`` to the last bit.
    """
    import numpy as np

    values = np.asarray(sample, dtype="float64")
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    # Halved first: the sum or difference of two doubles may overflow.
    halves = np.quantile(values / 2, [0.25, 0.75, 0.05, 0.95, 0.0, 1.0, 0.5])
    centre, spans = 2 * float(halves[6]), [float(halves[i + 1] - halves[i]) for i in (0, 2, 4)]
    span = next((one for one in spans if one > 0), 0.0)
    if span == 0.0:
        return centre, 1.0
    exponent = int(np.clip(np.round(np.log2(span)), -1000, 1000))
    return centre, 2.0**exponent


def fine_key(z: NDArray[np.float64], resolution: int) -> NDArray[np.int64]:
    """Return the fine bin of each ``z``: ``floor((sign(z) * (1 - 1 / (1 + |z|)) + 1) * (resolution / 2))``.

    The engines compute the same expression in SQL, from ``+ - * / abs sign floor`` alone. It maps the whole line to
    ``0..resolution``, and has its finest bins around the centre. It never falls as ``z`` grows, since no single step of it
    does, and rounding keeps an order; of the shorter ``z / (1 + |z|)`` that is not true, as both of its parts grow.
    """
    import numpy as np

    squeezed = np.sign(z) * (1.0 - 1.0 / (1.0 + np.abs(z)))
    return np.floor((squeezed + 1.0) * (resolution / 2)).astype("int64")


def exact_key(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return an integer for each finite double, all different and in the order of the doubles: every value its own cell."""
    import numpy as np

    bits = (np.asarray(values, dtype="float64") + 0.0).view("int64")  # adding zero makes one of the two zeros
    return np.where(bits < 0, np.int64(-(2**63)) - bits - 1, bits)


def sturges_edges(low: float, high: float, rows: int, dtype: str = "float64") -> NDArray[np.float64]:
    """Work out ``numpy.histogram_bin_edges(x, bins="sturges")`` from what the aggregate knows.

    Bit for bit those of NumPy 2: ``width = (high - low) / (log2(rows) + 1)``, at least one for integers, and
    ``ceil((high - low) / width)`` equal bins by ``linspace`` in the column's own type (``float32`` stays ``float32``).

    :param low: the least finite value of both sides.
    :param high: the greatest finite value of both sides.
    :param rows: finite rows of both sides.
    :param dtype: of both sides together.
    :return: the edges, one more than there are bins.
    :raises InvalidInput: where NumPy refuses: more bins than there are values of the type in the range.
    """
    import numpy as np

    kind = np.dtype(dtype)
    floating = kind.kind == "f"
    first: Any = kind.type(low)
    last: Any = kind.type(high)
    if not floating:
        first, last = int(low), int(high)
    bins = 1
    if first == last:
        first, last = first - 0.5, last + 0.5
    else:
        width = (last - first) / (np.log2(rows) + 1.0)
        if not floating and width < 1:
            width = 1
        bins = int(np.ceil((last - first) / width))
    own_type = kind if floating else np.dtype("float64")
    edges = np.linspace(first, last, bins + 1, endpoint=True, dtype=own_type)
    if (edges[:-1] >= edges[1:]).any():
        raise InvalidInput(
            f"{bins} bins between {low!r} and {high!r} are finer than {dtype} can tell apart",
            field="values",
            remedy="Use the robust mode: its bins hold as many rows each.",
        )
    return edges.astype("float64")
