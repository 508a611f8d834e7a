"""Does an old model still fit what is there today? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from airflow_pipeops.base.serialisation import JsonForm


@dataclass(frozen=True)
class Today(JsonForm):
    """What the data of today are like.

    :param columns: column -> datatype of the Open Inference Protocol; empty for a type that it does not have.
    :param nulls: column -> share of its values that are null.
    """

    columns: Mapping[str, str]
    nulls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Old(JsonForm):
    """What is known of the model that shall run again.

    :param version: in the registry; empty where it has none.
    :param blocked: why it was itself taken back; empty if it was not.
    :param broken: why its artifact cannot be read and verified; empty if it can.
    :param features: column that it reads -> datatype; ``None`` where nobody can tell.
    :param age: time since the last row that it learned from; ``None`` where nobody can tell.
    """

    version: str
    blocked: str = ""
    broken: str = ""
    features: Mapping[str, str] | None = None
    age: timedelta | None = None


@dataclass(frozen=True)
class Image(JsonForm):
    """The image that would serve the old model.

    :param name: as the desired state names it.
    :param there: whether its registry has it; ``None`` where nobody can tell.
    :param why: for what reason nobody can tell; else empty.
    """

    name: str
    there: bool | None
    why: str = ""


@dataclass(frozen=True)
class Fit(JsonForm):
    """Whether it fits, and why not.

    :param verdict: ``fits``, ``does not fit`` or ``cannot tell``.
    :param reasons: sentences.
    """

    verdict: Literal["fits", "does not fit", "cannot tell"]
    reasons: tuple[str, ...]


#: A column that is null everywhere is there by name only.
_GONE = 1.0


def judge(
    old: Old, today: Today | None, *, max_age: timedelta | None = None, image: Image | None = None
) -> Fit:
    """Say whether an old model can take over again.

    :param old: what is known of it.
    :param today: what the data are like; ``None`` where nobody has given any.
    :param max_age: how old what it has learned may be; ``None`` for any age.
    :param image: that would serve it; ``None`` where nobody has named one, and it is not asked for.
    :return: ``does not fit`` with all reasons; else ``cannot tell`` with what is not known; else ``fits``.
    """
    against = [*_itself(old), *_columns(old.features or {}, today)]
    if max_age is not None and old.age is not None and old.age > max_age:
        against.append(
            f"It has learned from nothing in the last {old.age.days} days, and {max_age.days} are allowed."
        )
    if image is not None and image.there is False:
        against.append(f"The image that serves it, {image.name}, is not in its registry any more.")
    if against:
        return Fit("does not fit", tuple(against))
    unknown = []
    if today is None:
        unknown.append("No data of today were given.")
    if old.features is None:
        unknown.append("Its artifact does not say which columns it reads.")
    if max_age is not None and old.age is None:
        unknown.append("Its artifact does not say until when it has learned.")
    if image is not None and image.there is None:
        unknown.append(
            f"Nobody can tell whether the image that serves it, {image.name}, is still there: {image.why}."
        )
    if unknown:
        return Fit("cannot tell", tuple(unknown))
    served = "No image was named." if image is None else f"Its registry has {image.name}."
    whole = f"Version {old.version} is whole, and today's data have its {len(old.features or {})} columns."
    return Fit("fits", (whole, served))


def _itself(old: Old) -> Sequence[str]:
    found = []
    if not old.version:
        found.append("It has no version in the registry.")
    if old.blocked:
        found.append(f"It was itself taken back: {old.blocked}.")
    if old.broken:
        found.append(f"Its artifact cannot be used: {old.broken}.")
    return found


def _columns(features: Mapping[str, str], today: Today | None) -> Sequence[str]:
    if today is None:
        return []
    found = []
    for name, kind in features.items():
        if name not in today.columns:
            found.append(f"It reads {name!r}, which today's data do not have.")
        elif today.columns[name] != kind:
            found.append(
                f"It reads {name!r} as {kind}, which is {today.columns[name] or 'of another type'} today."
            )
        elif today.nulls.get(name, 0.0) >= _GONE:
            found.append(f"It reads {name!r}, which is null in all of today's rows.")
    return found
