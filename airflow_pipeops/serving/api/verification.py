"""Ask a running model server, and compare its answers with the model's own."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.base.http import asked, bearer, trusting
from airflow_pipeops.base.http import base_url as checked
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    GateFailed,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt, remember
from airflow_pipeops.serving.api import protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from airflow_pipeops.models.artifact import Loaded

_ATTEMPTS = 4
#: Seconds for one call, the whole of the answer included.
_TIMEOUT = 20.0
#: Largest difference between a served and an offline probability: the same arithmetic, printed and read as JSON.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Verified:
    """What was found.

    :param rows: how many rows were sent.
    :param max_difference: between a served and an offline probability.
    :param seconds: that the inference request took.
    """

    rows: int
    max_difference: float
    seconds: float


def verify(
    base_url: str,
    token: str | None,
    loaded: Loaded,
    *,
    model: str,
    version: str,
    frame: pd.DataFrame,
    verify_tls: Any = True,
    by_version: bool = False,
) -> Verified:
    """Check that a server serves this version of this artifact, and answers as the artifact does.

    :param base_url: of the server.
    :param token: sent as a bearer token, if any.
    :param frame: rows to send.
    :param by_version: ask for this version by its path, and not for the one that answers requests that name none.
    :param verify_tls: what the server's certificate is checked with; see :func:`airflow_pipeops.base.http.trusting`.
    :return: how many rows were compared, by how much they differ at most, and how long the server took.
    :raises GateFailed: if it serves another version or digest, or its answers differ.
    """
    from airflow_pipeops.models.outputs import predicted

    features = loaded.manifest.features
    columns = plain_columns(frame, features)
    by_output = predicted(loaded.model, columns, features)
    offline = [value for values in by_output.values() for value in values]
    base, headers = base_url.rstrip("/"), _headers(token)
    path = f"/v2/models/{model}" + (f"/versions/{version}" if by_version else "")
    found = _ask(base, headers, verify_tls, "GET", path)
    versions = found.get("versions")
    first = versions[0] if isinstance(versions, list) and versions else None
    described = {"version": first, "sha256": _sha256(found)}
    wanted = {"version": str(version), "sha256": loaded.sha256}
    _refuse_other(described, wanted, f"{base_url} serves", model)
    began = time.monotonic()
    request = protocol.write_request(columns, features, by_output)
    answer = _ask(base, headers, verify_tls, "POST", f"{path}/infer", request)
    seconds = time.monotonic() - began
    try:
        answered = {output["name"]: output["data"] for output in answer["outputs"]}
        online = [float(value) for name in by_output for value in answered[name]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadResponse(f"{base_url} gave an answer without predictions") from error
    if len(online) != len(offline):
        raise GateFailed(f"{base_url} gave {len(online)} predictions, and the model itself {len(offline)}")
    differences = [abs(one - other) for one, other in zip(online, offline, strict=True)]
    difference = max(differences)
    if not all(one <= TOLERANCE for one in differences):  # a NaN is below nothing, and max may not see it
        raise GateFailed(
            f"{base_url} predicts otherwise than the model itself, by up to {difference:.3g}",
            remedy="Compare the versions of scikit-learn and numpy of the server with those in model.json.",
        )
    # Behind one address, another pod may have answered than the one that described itself.
    answerer = {"version": answer.get("model_version"), "sha256": _sha256(answer)}
    _refuse_other(answerer, wanted, f"{base_url} was answered by", model)
    return Verified(len(frame), difference, seconds)


def _sha256(answer: Mapping[str, Any]) -> Any:
    return map_(answer.get("parameters")).get("sha256")


def _headers(token: str | None) -> dict[str, str]:
    remember(token or "")
    return bearer(token)


def _refuse_other(found: Mapping[str, Any], wanted: Mapping[str, Any], says: str, model: str) -> None:
    for what, value in wanted.items():
        if found[what] != value:
            raise GateFailed(
                f"{says} {what} {found[what]} of {model!r}, not {value}",
                remedy="Look whether the release of that version is live, and the connection names its endpoint.",
            )


def served(connection: Any, conn_id: str, model: str) -> dict[str, Any]:
    """Return what a server says of a model: its versions, and the digest among its parameters.

    :param connection: of type ``http``.
    :param conn_id: its name.
    :param model: name under which it is served.
    :return: the answer.
    :raises SystemFailure: if the server does not answer, or does not serve it.
    """
    base, headers = base_url(connection, conn_id).rstrip("/"), _headers(connection.password)
    return _ask(base, headers, trusting(connection.extra_dejson), "GET", f"/v2/models/{model}")


def plain_columns(frame: pd.DataFrame, features: Any) -> dict[str, list[Any]]:
    """Return the feature columns of a table as plain values.

    :return: column name -> its values, in the order of ``features``.
    :raises InvalidInput: if a column is missing.
    """
    if missing := [name for name in features if name not in frame.columns]:
        raise InvalidInput(
            f"the data lack the columns {', '.join(missing)} that the model wants",
            field="data",
            value=missing,
        )
    return {name: frame[name].tolist() for name in features}


def base_url(connection: Any, conn_id: str) -> str:
    """Return the base URL that an Airflow ``http`` connection names.

    :return: the URL, with scheme and port.
    :raises InvalidInput: if it names none.
    """
    host = connection.host or ""
    if not host:
        raise InvalidInput(
            f"connection {conn_id!r} has no host",
            field=f"{conn_id}.host",
            remedy="Set the host to the base URL of the model's endpoint.",
        )
    url = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    authority = url.partition("://")[2].partition("/")[0]
    if connection.port and ":" not in authority:
        url = url.replace(authority, f"{authority}:{connection.port}", 1)
    return checked(str(url), field=f"{conn_id}.host", of="a model server")


def _ask(
    base: str, headers: Mapping[str, str], verify: Any, method: str, path: str, content: Any = None
) -> dict[str, Any]:
    """Make a call, again where the server is away or busy."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return asked(
                method,
                base,
                path,
                about=path,
                error_of=_error_of,
                headers=headers,
                timeout=_TIMEOUT,
                verify=verify,
                json=content,
            )
        except Unreachable:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.2 * 2**attempt))
    raise AssertionError("unreachable")


def _error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Turn an answer other than success into an error of ours."""
    where = f"{url}{about}"
    if status in (401, 403):
        return AccessDenied(f"{where} refused the credential ({status})")
    if status == 404:
        return NotFound(f"{where} is not there", remedy="Check the model's name and the endpoint.")
    if status == 429 or status >= 500:
        return Unreachable(f"{where} answered with {status}")
    try:
        found = parsed(content)
    except ValueError:
        found = None
    said = excerpt(str(found.get("error", "") if isinstance(found, dict) else ""), 300)
    return GateFailed(f"{where} refused the request ({status}): {said}")
