"""Whether a model that was made again is the one that was recorded, and what it was made from that is not the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.serialisation import JsonForm

Outcome = Literal["identical", "equivalent", "close", "different", "cannot tell"]

#: Scores that are no farther apart are the same.
EQUIVALENT = 1e-9
#: What a model is made from, in the order in which a difference is looked for; of each, the parts that cannot change it are
#: left out: a commit tells less than the files do.
INPUTS: Mapping[str, tuple[str, ...]] = {
    "data": (),
    "feature_set": (),
    "code": ("commit", "dirty"),
    "arguments": (),
    "packages": (),
    "python": (),
    "machine": (),
    "image": (),
}
#: So many differences are told; hundreds of packages may differ.
MOST = 50


@dataclass(frozen=True)
class Difference(JsonForm):
    """Something that a model was made from, and that is another now.

    :param input: its name, with dots.
    :param recorded: what it was, as a text; empty for nothing.
    :param found: what it is now, as a text; empty for nothing.
    """

    input: str
    recorded: str
    found: str


@dataclass(frozen=True)
class Reproduction(JsonForm):
    """What came of making a model again.

    :param outcome: ``identical``, ``equivalent``, ``close``, ``different`` or ``cannot tell``.
    :param reason: in one sentence.
    :param name: of the model.
    :param recorded: digest of the artifact that was recorded.
    :param found: digest of the one that was made; empty if none was.
    :param distance: by how much a score of a probe differs at most; ``None`` if the recorded model is gone.
    :param metrics: metric -> what it was, and what it is.
    :param differences: what is another now, the most telling first.
    """

    outcome: Outcome
    reason: str
    name: str
    recorded: str
    found: str = ""
    distance: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Compare what two models were made from.

    :param recorded: a ``training.json``.
    :param found: another one.
    :return: what differs, at most :data:`MOST`, in the order of :data:`INPUTS`.
    """
    ours, theirs = _flat(recorded), _flat(found)
    names = [*ours, *(name for name in theirs if name not in ours)]
    names.sort(
        key=lambda name: list(INPUTS).index(name.partition(".")[0])
    )  # stable: within a part, as it is written
    return tuple(
        Difference(name, ours.get(name, ""), theirs.get(name, ""))
        for name in names
        if ours.get(name, "") != theirs.get(name, "")
    )[:MOST]


def unknown(recorded: Mapping[str, Any], reason: str) -> Reproduction:
    """Say that nobody can tell, and why."""
    result = map_(recorded.get("result"))
    return Reproduction("cannot tell", reason, str(result.get("name", "")), str(result.get("sha256", "")))


def judge(
    recorded: Mapping[str, Any],
    found: Mapping[str, Any],
    *,
    same_behaviour: bool | None,
    distance: float | None,
    tolerance: float,
    apart: bool | None,
) -> Reproduction:
    """Judge a model that was made again.

    :param recorded: the ``training.json`` that was recorded.
    :param found: that of the model that was made.
    :param same_behaviour: whether both say the same of the probes, at the digits that count; ``None`` if they have others.
    :param distance: by how much a score of a probe differs at most; ``None`` if nobody can tell.
    :param tolerance: up to which distance the two are close.
    :param apart: whether their metrics on the held-out rows differ beyond chance; ``None`` if nobody can tell.
    :return: the verdict.
    """
    old, new = map_(recorded.get("result")), map_(found.get("result"))
    differs = differences(recorded, found)
    first = ""
    if differs:
        was, now = differs[0].recorded or "nothing", differs[0].found or "nothing"
        first = f"; first of what differs: {differs[0].input} was {was}, and is {now}"
    near = distance is not None and distance <= tolerance
    said = "an unknown distance" if distance is None else f"{distance:.3g}"
    outcome: Outcome
    if old.get("sha256") == new.get("sha256"):
        outcome, reason = "identical", "every byte of the artifact is the same"
    elif same_behaviour is None and distance is None:
        outcome = "cannot tell"
        reason = f"other bytes and other probes, and the recorded model or its probes cannot be read{first}"
    elif same_behaviour or (distance is not None and distance <= EQUIVALENT):
        outcome, reason = "equivalent", f"other bytes, and the same scores of every probe{first}"
    elif near and apart is not True:
        doubt = "" if apart is False else ", and nothing measures it on held-out rows"
        outcome, reason = "close", f"no score of a probe is farther off than {said}{doubt}{first}"
    elif near:
        outcome, reason = (
            "different",
            f"scores are within {said}, and the metric differs beyond chance{first}",
        )
    else:
        outcome = "different"
        unseeded = "; nothing that is recorded differs: is all of it seeded?"
        reason = f"scores of the probes are {said} apart{first or unseeded}"
    metrics = map_(old.get("metrics"))
    return Reproduction(
        outcome,
        reason,
        str(old.get("name", "")),
        str(old.get("sha256", "")),
        str(new.get("sha256", "")),
        distance,
        {name: [value, map_(new.get("metrics")).get(name)] for name, value in metrics.items()},
        differs,
    )


def _flat(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the leaves of what a model was made from, by their names with dots."""
    found: dict[str, str] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{name}.{key}", item)
        elif isinstance(value, (list, tuple)):
            found[name] = ", ".join(map(str, value))
        elif value is not None:
            found[name] = str(value)

    for part, without in INPUTS.items():
        given = manifest.get(part)
        if isinstance(given, Mapping):
            given = {key: item for key, item in given.items() if key not in without}
        walk(part, given)
    return found
