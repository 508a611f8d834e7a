"""How fast is asked, and how much may be spent. Pure: times come in, pauses go out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.documents import whole
from airflow_pipeops.exceptions import InvalidInput

#: Tokens that a chat's frame adds to a message, as far as is known of any endpoint.
_FRAME = 16


def positive_or_none(field: str, value: float | None) -> float | None:
    """Refuse a limit that is no number above zero; none is no limit.

    :return: the limit.
    :raises InvalidInput: for any other.
    """
    if value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
    ):
        return value
    raise InvalidInput(
        f"{field} is {value!r}", field=field, value=value, remedy="Give a number above zero, or leave it out."
    )


def count(value: Any) -> int | None:
    """Read a number of tokens; none in place of what cannot be one."""
    found = whole(value)
    return found if found is not None and 0 <= found < 2**40 else None


class Pace:
    """Requests and tokens, spread evenly over a minute, so that no minute has more than its limit and one.

    :param requests_per_minute: at most; ``None`` for no limit.
    :param tokens_per_minute: at most, of questions and answers; ``None`` for no limit.
    """

    def __init__(
        self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        positive_or_none("requests_per_minute", requests_per_minute)
        positive_or_none("tokens_per_minute", tokens_per_minute)
        self._request = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._next = self._free = self._held = -math.inf

    def take(self, now: float, tokens: int) -> float:
        """Take a place.

        :param now: of a clock that never goes back, in seconds.
        :param tokens: that are expected.
        :return: seconds after which the request may go.
        """
        at = max(now, self._next, self._free, self._held)
        self._next = at + self._request
        self._free = max(self._free, at) + tokens * self._token
        return at - now

    def settle(self, expected: int, tokens: int) -> None:
        """Correct what was expected by what an answer has cost.

        :param expected: as it was given to :meth:`take`.
        :param tokens: that it were.
        """
        self._free += (tokens - expected) * self._token

    def hold(self, now: float, seconds: float) -> None:
        """Let no request go for so many seconds: a server has asked for it."""
        self._held = max(self._held, now + seconds)


@dataclass(frozen=True)
class Spent:
    """What calls have cost.

    :param cost: in the currency of the prices.
    :param tokens: of questions and answers.
    """

    cost: float = 0.0
    tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.cost + other.cost, self.tokens + other.tokens)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.cost - other.cost, self.tokens - other.tokens)


class Budget:
    """What may be spent. A call is begun only if the most that it can cost still fits, so that the whole never exceeds it.

    :param cost: at most; ``None`` for no limit.
    :param tokens: at most; ``None`` for no limit.
    """

    def __init__(self, cost: float | None = None, tokens: float | None = None) -> None:
        self.cost = positive_or_none("max_cost", cost)
        self.tokens = positive_or_none("max_tokens", tokens)
        self.spent, self._reserved = Spent(), Spent()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.cost is not None or self.tokens is not None

    @property
    def reserved(self) -> bool:
        """Whether anything is set aside."""
        return self._reserved.tokens > 0

    def reserve(self, most: Spent) -> bool:
        """Set aside the most that a call can cost.

        :return: whether that is still there.
        """
        after = self.spent + self._reserved + most
        if self.cost is not None and after.cost > self.cost:
            return False
        if self.tokens is not None and after.tokens > self.tokens:
            return False
        self._reserved += most
        return True

    def settle(self, most: Spent, real: Spent) -> None:
        """Put what a call has cost in the place of what was set aside."""
        self._reserved -= most
        self.spent += real


class Prices:
    """What models cost.

    :param prices: model -> ``{"input": ..., "output": ...}``, for a million tokens each.
    """

    def __init__(self, prices: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self._prices: dict[str, tuple[float, float]] = {}
        for model, price in mapping("prices", prices or {}, "Give {model: {input, output}}.").items():
            given = mapping("prices", price, 'Give {"input": ..., "output": ...}.')
            found = [given.get("input"), given.get("output", 0.0)]
            if set(given) - {"input", "output"} or not all(
                isinstance(one, (int, float)) and not isinstance(one, bool) and 0 <= one < math.inf
                for one in found
            ):
                raise InvalidInput(
                    f"the price of {model!r} is {dict(given)!r}",
                    field="prices",
                    value=model,
                    remedy='Give {"input": ..., "output": ...}, for a million tokens each.',
                )
            self._prices[model] = (float(given["input"]), float(given.get("output", 0.0)))

    def known(self, model: str) -> bool:
        """Whether the price of a model is known."""
        return model in self._prices

    def cost(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """Return what a call costs; ``None`` for a model without a price."""
        if model not in self._prices:
            return None
        price_in, price_out = self._prices[model]
        return (tokens_in * price_in + tokens_out * price_out) / 1e6


def most_in(body: Mapping[str, Any]) -> int:
    """Return the most tokens that a question can have: no tokeniser makes more of them than there are bytes.

    :param body: of the call.
    :return: the tokens.
    """
    messages = body.get("messages") or ()
    return len(json.dumps(body, ensure_ascii=False).encode()) + _FRAME * (1 + len(messages))


def expected(body: Mapping[str, Any], most_out: int | None) -> int:
    """Return the tokens that a call is expected to cost, for the pace: four bytes each, and half of what is allowed."""
    return most_in(body) // 4 + (most_out or 512) // 2
