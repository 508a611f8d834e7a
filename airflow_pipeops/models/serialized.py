"""A fitted model as bytes, by skops: loading runs no code but that of types on an explicit list."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterable
from typing import Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.exceptions import BadResponse, InvalidInput, MissingExtra

#: What scikit-learn's own estimators need beyond the types that skops trusts by itself.
TRUSTED = (
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)

#: What an estimator of scikit-learn remembers of the machine that it was fitted on, and what it is without it. It decides
#: how fast a model predicts, never what.
RUNTIME = {"n_jobs": "null", "n_threads": "1"}

#: Reading imports scikit-learn, whose docstrings are parsed then: in Python 3.11 two threads that parse at once may both
#: fail ("AST constructor recursion depth mismatch").
_READING = threading.Lock()

_EPOCH = (1980, 1, 1, 0, 0, 0)


def dumps(model: Any, *, trusted: Iterable[str] = ()) -> bytes:
    """Write a fitted model as bytes; equal models give equal bytes.

    :param trusted: types to trust beyond :data:`TRUSTED`, by full name.
    :return: the bytes.
    :raises InvalidInput: if the model holds a type that a reader would refuse.
    """
    skops = _skops()
    content = _canonical(skops.dumps(model))
    _refuse_untrusted(skops, content, trusted)
    return content


def loads(content: bytes, *, trusted: Iterable[str] = ()) -> Any:
    """Read a model back.

    :return: the model.
    :raises InvalidInput: if it holds a type that is not trusted; nothing of it has run then.
    :raises BadResponse: if the bytes are no model.
    """
    skops = _skops()
    try:
        with _READING:
            _refuse_untrusted(skops, content, trusted)
            return skops.loads(content, trusted=[*TRUSTED, *trusted])
    except (InvalidInput, MemoryError):
        raise
    except (
        Exception
    ) as error:  # skops raises whatever a file of another protocol, or a damaged one, leads it to
        failure = BadResponse(
            f"the bytes are no skops model that can be read here: {type(error).__name__}: {str(error)[:300]}",
            remedy="Install the versions of skops and scikit-learn that wrote it; model.json names them.",
        )
        failure.retryable = False  # the bytes are what their digest says
        raise failure from error


def _refuse_untrusted(skops: Any, content: bytes, trusted: Iterable[str]) -> None:
    refused = sorted(set(skops.get_untrusted_types(data=content)) - {*TRUSTED, *trusted})
    if refused:
        raise InvalidInput(
            f"the model holds types that are not trusted: {', '.join(refused)}",
            field="trusted",
            value=refused,
            remedy="If you know them, name them in trusted (MODEL_TRUSTED for the server).",
        )


def _canonical(content: bytes) -> bytes:
    """Give a skops file stable names and times, and leave the machine out of it.

    skops names parts after memory addresses and stamps them with the time, so equal models differ; number the
    parts in the order in which the schema first names them. Texts, numbers and truth values are numbered by what they
    are, since which of them share an address is chance. :data:`RUNTIME` is set to what it is on any machine.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(parts.pop("schema.json"))
    numbers: dict[Any, int] = {}
    renamed: dict[str, str] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        made = {}
        for name, one in _attributes(node).items():
            if name in RUNTIME and one.get("__loader__") == "JsonNode":
                one["content"] = RUNTIME[name]
        for key, value in node.items():
            if key == "__id__" and isinstance(value, int):
                content = node.get("content") if node.get("__loader__") == "JsonNode" else None
                plain = isinstance(content, str) and not content.startswith(("[", "{"))
                value = numbers.setdefault(content if plain else value, len(numbers))
            elif key == "file" and isinstance(value, str) and value in parts:
                stem = f"part-{len(renamed):05}"
                value = renamed.setdefault(value, stem + _suffix(value))
            else:
                value = walk(value)
            made[key] = value
        return made

    schema = walk(schema)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in [
            ("schema.json", json.dumps(schema).encode()),
            *sorted((renamed.get(name, name), part) for name, part in parts.items()),
        ]:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, part)
    return target.getvalue()


def _attributes(node: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an object of scikit-learn: those of others may mean something else."""
    if not str(node.get("__module__")).startswith("sklearn."):
        return {}
    found = map_(map_(node.get("content")).get("content"))
    return {name: one for name, one in found.items() if isinstance(one, dict)}


def _suffix(name: str) -> str:
    found = re.search(r"\.[a-z0-9]+$", name)
    return found.group() if found else ""


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise MissingExtra("skops", "mlflow") from error
    return skops.io
