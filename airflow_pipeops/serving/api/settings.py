"""What the server is told by its environment, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from airflow_pipeops.base.arguments import mapping, matching, not_empty, one_of
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.environment import names, whole

Role = Literal["default", "beside", "shadow"]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = ("name", "version", "uri", "sha256", "role")
_ONE = ("MODEL_URI", "MODEL_SHA256", "MODEL_NAME", "MODEL_VERSION")
_MIB = 2**20


@dataclass(frozen=True)
class Served:
    """One version of a model.

    :param name: of the model, as requests name it.
    :param version: of the model, as its metadata and answers name it.
    :param uri: where its artifact is.
    :param sha256: the artifact's digest, without which nothing is loaded.
    :param role: ``default`` answers requests that name no version, ``beside`` those that name it, and ``shadow`` none: it
        scores what the default was asked.
    """

    name: str
    version: str
    uri: str
    sha256: str
    role: Role = "default"

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True)
class Sampling:
    """Which requests are kept, and how much of them may be lost.

    :param uri: of the folder or prefix for the samples (``SAMPLE_URI``).
    :param share: of the requests (``SAMPLE_SHARE``).
    :param left_out: features that are not kept (``SAMPLE_LEAVE_OUT``).
    :param file_rows: a part is written when it has so many rows (``SAMPLE_ROWS``)
    :param file_seconds: or its first request is so long ago (``SAMPLE_SECONDS``).
    :param held_rows: so many rows wait to be written at most; what comes then is lost, and counted (``SAMPLE_HELD_ROWS``).
    :param held_bytes: and so many bytes of requests (``SAMPLE_HELD_BYTES``).
    """

    uri: str
    share: float = 1.0
    left_out: tuple[str, ...] = ()
    file_rows: int = 10_000
    file_seconds: int = 60
    held_rows: int = 100_000
    held_bytes: int = 64 * _MIB


@dataclass(frozen=True)
class Settings:
    """The environment, checked.

    :param models: what is served: one (``MODEL_URI``, ``MODEL_SHA256``, ``MODEL_NAME``, ``MODEL_VERSION``), or those that
        a file names (``MODELS_FILE``).
    :param host: the address to listen on (``HOST``).
    :param port: the port to listen on; 0 is any free one (``PORT``).
    :param trusted: further types that an artifact may hold (``MODEL_TRUSTED``).
    :param max_bytes: the largest request body (``MODEL_MAX_BYTES``).
    :param at_once: how many requests are scored at the same time (``MODEL_AT_ONCE``).
    :param waiting: how many may wait for that; more are refused at once (``MODEL_WAITING``).
    :param seconds: that a request may take, the reading of its body included (``MODEL_SECONDS``).
    :param drain_seconds: that requests in flight have to end after SIGTERM (``MODEL_DRAIN_SECONDS``).
    :param sampling: whether and how requests are kept.
    """

    models: tuple[Served, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    trusted: tuple[str, ...] = ()
    max_bytes: int = 8 * _MIB
    at_once: int = 4
    waiting: int = 64
    seconds: int = 30
    drain_seconds: int = 20
    sampling: Sampling | None = None


def settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment.

    :return: what the server shall serve, and where.
    :raises InvalidInput: naming the variable that is missing or wrong.
    """
    models = _models(environment)
    sampling = _sampling(environment)
    shadows = [one for one in models if one.role == "shadow"]
    if shadows and sampling is None:
        raise InvalidInput(
            f"{shadows[0]} is a shadow, and SAMPLE_URI is not set",
            field="SAMPLE_URI",
            remedy="Say where its outputs are to be kept: nobody else sees them.",
        )
    return Settings(
        models=models,
        host=environment.get("HOST") or "127.0.0.1",
        port=whole(environment, "PORT", 8080, low=0, high=65535),
        trusted=names(environment, "MODEL_TRUSTED"),
        max_bytes=whole(environment, "MODEL_MAX_BYTES", 8 * _MIB),
        at_once=whole(environment, "MODEL_AT_ONCE", 4, high=1000),
        waiting=whole(environment, "MODEL_WAITING", 64, low=0, high=10_000),
        seconds=whole(environment, "MODEL_SECONDS", 30, high=3600),
        drain_seconds=whole(environment, "MODEL_DRAIN_SECONDS", 20, high=3600),
        sampling=sampling,
    )


def served(listed: Any, field: str) -> tuple[Served, ...]:
    """Read a list of models.

    :param listed: mappings with name, version, uri, sha256 and perhaps role, which is ``default`` where it is not given.
    :param field: under which the reader knows the list, for errors.
    :return: the models.
    :raises InvalidInput: for what is missing, unknown or there twice, and for a model without one default version.
    """
    if not isinstance(listed, (list, tuple)) or not listed:
        raise InvalidInput(
            f"{field} lists no models", field=field, remedy=f"List mappings of {', '.join(_KEYS)}."
        )
    found = tuple(_served(one, f"{field}[{index}]") for index, one in enumerate(listed))
    for name in {one.name: None for one in found}:
        versions = [one.version for one in found if one.name == name]
        if twice := [version for version in versions if versions.count(version) > 1]:
            raise InvalidInput(f"{field} has {name} version {twice[0]} twice", field=field, value=twice[0])
        defaults = [one.version for one in found if one.name == name and one.role == "default"]
        if len(defaults) != 1:
            raise InvalidInput(
                f"{field}: of {name!r}, {len(defaults)} versions ({', '.join(defaults) or 'none'}) are the default",
                field=f"{field}.role",
                value=defaults,
                remedy="Let one answer requests that name no version; give the others role: beside, or shadow.",
            )
    return found


def _served(given: Any, field: str) -> Served:
    remedy = f"Give {', '.join(_KEYS[:-1])} and perhaps role."
    found = mapping(field, given, remedy)
    if unknown := [key for key in found if key not in _KEYS]:
        raise InvalidInput(
            f"{field} has the unknown key {unknown[0]!r}", field=field, value=unknown, remedy=remedy
        )
    texts = {key: str(found.get(key) or "").strip() for key in _KEYS[:-1]}
    for key, value in texts.items():
        not_empty(f"{field}.{key}", value, f"{field}.{key} is not set", remedy)
    role = one_of(f"{field}.role", found.get("role") or "default", ("default", "beside", "shadow"))
    return checked(Served(**texts, role=cast(Any, role)), {key: f"{field}.{key}" for key in texts})


def checked(one: Served, fields: Mapping[str, str]) -> Served:
    """Refuse a name, version or digest that is none.

    :param fields: how the reader knows ``name``, ``version`` and ``sha256``, where not by these names.
    :return: the model.
    :raises InvalidInput: naming what is wrong.
    """
    for key in ("name", "version"):  # they are parts of paths
        form = "a name of letters, digits, '.', '_' and '-'"
        matching(fields.get(key, key), getattr(one, key), _NAME, form, "Give it such a name.")
    matching(
        fields.get("sha256", "sha256"),
        one.sha256,
        _SHA256,
        "a SHA-256 in hex",
        "Copy it from the registered version.",
    )
    return one


def _models(environment: Mapping[str, str]) -> tuple[Served, ...]:
    file = environment.get("MODELS_FILE", "").strip()
    texts = {variable: environment.get(variable, "").strip() for variable in _ONE}
    if not file:
        for variable, value in texts.items():
            not_empty(variable, value, f"{variable} is not set", "Set it, or MODELS_FILE for several models.")
        uri, sha256, name, version = texts.values()
        fields = {"sha256": "MODEL_SHA256", "name": "MODEL_NAME", "version": "MODEL_VERSION"}
        return (checked(Served(name, version, uri, sha256), fields),)
    if both := [variable for variable, value in texts.items() if value]:
        raise InvalidInput(
            f"MODELS_FILE and {both[0]} are both set",
            field=both[0],
            remedy="Name one model by variables, or all of them in the file.",
        )
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(
            f"MODELS_FILE {file} cannot be read: {' '.join(str(error).split())}",
            field="MODELS_FILE",
            value=file,
        ) from error
    found = mapping("MODELS_FILE", content, "Write a list of models under the key models.")
    if set(found) != {"models"}:
        raise InvalidInput(
            f"MODELS_FILE {file} has the keys {', '.join(map(str, found)) or 'none'}",
            field="MODELS_FILE",
            remedy="Write a list of models under the key models, and nothing else.",
        )
    return served(found["models"], "models")


def _sampling(environment: Mapping[str, str]) -> Sampling | None:
    uri = environment.get("SAMPLE_URI", "").strip()
    variables = [name for name in environment if name.startswith("SAMPLE_") and environment[name].strip()]
    known = {
        "SAMPLE_URI", "SAMPLE_SHARE", "SAMPLE_LEAVE_OUT", "SAMPLE_ROWS", "SAMPLE_SECONDS", "SAMPLE_HELD_ROWS",
        "SAMPLE_HELD_BYTES",
    }  # fmt: skip
    # A variable that is misspelt would keep what was to be left out.
    if unknown := sorted(set(variables) - known):
        raise InvalidInput(
            f"{unknown[0]} means nothing here",
            field=unknown[0],
            remedy=f"There are {', '.join(sorted(known))}.",
        )
    if not uri:
        if variables:
            raise InvalidInput(
                f"{variables[0]} is set, and SAMPLE_URI is not",
                field="SAMPLE_URI",
                remedy="Say where the samples are to be kept.",
            )
        return None
    text = environment.get("SAMPLE_SHARE", "").strip() or "1"
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 < share <= 1:
        raise InvalidInput(
            f"SAMPLE_SHARE is {text!r}",
            field="SAMPLE_SHARE",
            value=text,
            remedy="Give a share above 0, up to 1.",
        )
    rows = whole(environment, "SAMPLE_ROWS", 10_000)
    return Sampling(
        uri=uri,
        share=share,
        left_out=names(environment, "SAMPLE_LEAVE_OUT"),
        file_rows=rows,
        file_seconds=whole(environment, "SAMPLE_SECONDS", 60),
        held_rows=whole(environment, "SAMPLE_HELD_ROWS", 10 * rows, low=rows),
        held_bytes=whole(environment, "SAMPLE_HELD_BYTES", 64 * _MIB),
    )
