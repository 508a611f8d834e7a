"""The claims of the story: each is checked against a running endpoint, Git, or the ledger, and kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Claim:
    """One thing the story says, and what was found.

    :param text: the claim, in one sentence.
    :param holds: whether it is true.
    :param found: what was observed.
    """

    text: str
    holds: bool
    found: str


class Claims:
    """Collects claims from several threads.

    :param say: prints a line as soon as a claim was checked.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._claims: list[Claim] = []

    def check(self, text: str, holds: bool, found: object) -> bool:
        """Keep a claim, and say at once whether it holds."""
        claim = Claim(text, bool(holds), str(found))
        with self._lock:
            self._claims.append(claim)
        self._say(f"{'✓' if claim.holds else '✗'} {text}" + ("" if claim.holds else f"  (found: {found})"))
        return claim.holds

    def equal(self, text: str, found: object, expected: object) -> bool:
        """Claim that two values are the same."""
        return self.check(
            text, found == expected, found if found == expected else f"{found!r}, expected {expected!r}"
        )

    @property
    def all(self) -> list[Claim]:
        """All claims, in the order in which they were checked."""
        with self._lock:
            return list(self._claims)

    @property
    def hold(self) -> bool:
        """Whether there are claims, and all of them hold."""
        claims = self.all
        return bool(claims) and all(claim.holds for claim in claims)

    def write(self, path: Path, **facts: object) -> None:
        """Write the claims, and facts about the run, as JSON."""
        content = {"hold": self.hold, **facts, "claims": [asdict(claim) for claim in self.all]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
        )
