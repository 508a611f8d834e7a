"""What kind of change a record is, and how large, by what it says. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.operations.changes.settings import CHANGES, ChangeKind

#: Words in the path of a file or of a value -> the kind of change; the first that fits.
_WORDS: tuple[tuple[ChangeKind, str], ...] = (
    ("tuning", r"^knobs\["),
    ("prompt", r"prompt"),
    ("secret", r"secret|credential|certificate|token|password|expir|not_?after"),
    ("schema", r"schema|migration|\.sql$|\.avsc$|\.proto$|contract|\bddl\b"),
    ("flag", r"flag|toggle|feature_?gate"),
    (
        "infra",
        r"replica|resource|\bcpu|memory|autoscal|\bhpa\b|affinity|toleration|ingress|network_?policy|quota",
    ),
    ("library", r"requirements|constraints\.txt|\.lock$|pyproject|airflow_?version|packages"),
    ("provider", r"provider|api_?base|endpoint"),
    ("image", r"\bimages?\b|image\.|new_?tag|\btag\b|digest"),
    ("model", r"\bmodels?\b|model_?version|storage_?uri"),
)
_SPELLED = re.compile(r"([a-z])([A-Z])")


def kind_of(path: str) -> ChangeKind:
    """Name the kind of change of a file, or of a value by its path in one.

    :param path: for example ``spec.replicas``.
    :return: the kind; ``config`` where no word says more.
    """
    plain = _SPELLED.sub(r"\1_\2", path).lower()
    return next((kind for kind, words in _WORDS if re.search(words, plain)), "config")


def kinds_of_change(body: Mapping[str, Any]) -> dict[ChangeKind, list[str]]:
    """Name the kinds of change of a record of kind ``change``, and the paths of each.

    :param body: of the record; what its ``subject`` says is believed.
    :return: kind -> paths of values; of a record that names none, the file.
    """
    said = text(body.get("subject"))
    given, previous = map_(body.get("set")), map_(body.get("previous"))
    # A deployment may set again what was so before, and that is no change.
    paths = [str(path) for path, value in given.items() if path not in previous or previous[path] != value]
    file = text(body.get("file"))
    if said in CHANGES:
        return {said: paths or [file]}
    of_file = kind_of(file)
    found: dict[ChangeKind, list[str]] = {}
    for path in paths:
        kind = kind_of(path)
        # What a file is about says more than a value without a telling name.
        found.setdefault(of_file if kind == "config" else kind, []).append(path)
    return found or {of_file: [file] if file else []}


def told_of_change(body: Mapping[str, Any], paths: Iterable[str]) -> tuple[str, str]:
    """Say what a change set, and what was there before.

    :param body: of the record.
    :param paths: of the values that are meant.
    :return: both in a few words; empty where the record does not say.
    """
    given, previous = map_(body.get("set")), body.get("previous")
    shown = [path for path in paths if path in given][:3]
    what = ", ".join(f"{path}={_short(given[path])}" for path in shown) or text(body.get("file"), 80)
    if isinstance(previous, Mapping):
        before = ", ".join(f"{path}={_short(previous[path])}" for path in shown if path in previous)
    else:
        before = _short(previous) if previous is not None else ""
    return what, before


def _short(value: Any) -> str:
    said = str(value)
    return said if len(said) <= 40 else f"{said[:39]}…"
