"""An Airflow connection, read wherever it is needed, in an event loop too; and what Airflow knows of secrets."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_pipeops.exceptions import InvalidInput, NotConfigured

Client = TypeVar("Client")
Result = TypeVar("Result")


def work_with(
    client: AbstractAsyncContextManager[Client], work: Callable[[Client], Awaitable[Result]]
) -> Result:
    """Do something with a client, from code that is not asynchronous.

    :param client: that is not open yet.
    :param work: is called with it, open.
    :return: what ``work`` returned.
    """

    async def inside() -> Result:
        async with client as opened:
            return await work(opened)

    return asyncio.run(inside())


def read(conn_id: str, conn_type: str = "") -> Any:
    """Read a connection.

    :param conn_id: which one.
    :param conn_type: of which type it should be, where only one will do.
    :return: Airflow's connection.
    :raises NotConfigured: where nobody made it.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise NotConfigured({conn_id: conn_type}) from None


async def aread(conn_id: str, conn_type: str) -> Any:
    """Read a connection where an event loop runs (a triggerer); as :func:`read`."""
    from airflow.providers.common.compat.connection import get_async_connection

    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        raise NotConfigured({conn_id: conn_type}) from None


def without_id(conn_id: str, message: object) -> str:
    """Say what a connection's test found without its id: while a form is tested, Airflow gives it a made-up one.

    :param conn_id: the id.
    :param message: what was found.
    :return: the message, about "the connection".
    """
    return re.sub(rf"(?:the )?connection ['\"]?{re.escape(conn_id)}\b['\"]?", "the connection", str(message))


async def read_extra(connection: Any) -> dict[str, Any]:
    """Return the extra of a connection, its secrets masked, without blocking the event loop.

    :param connection: as Airflow returned it.
    :return: the extra; empty where there is none.
    """
    if hasattr(connection, "aextra_dejson"):  # from Airflow 3.3.2 on
        return dict(await connection.aextra_dejson())
    return dict(await asyncio.to_thread(lambda: connection.extra_dejson))


def only(conn_id: str, extra: Mapping[str, Any], *known: str, prefix: str = "") -> None:
    """Refuse a field of a connection's extra that means nothing: it may be a mistyped one that protects.

    :param known: the fields that mean something.
    :param prefix: of the fields that are looked at; others are somebody else's.
    :raises InvalidInput: for another one that is set, with what comes near it.
    """
    for name, value in extra.items():
        if name in known or not name.startswith(prefix) or value in ("", None):
            continue
        near = difflib.get_close_matches(name, known, 1)
        raise InvalidInput(
            f"connection {conn_id!r} has {name!r} in its extra, which means nothing here",
            field=f"{conn_id}.{name}",
            remedy=f"Did you mean {near[0]!r}?"
            if near
            else f"Remove it; known: {', '.join(known) or 'none'}.",
        )


def server_url(connection: Any) -> str:
    """Return the URL of a server: the host, or what a connection that is given as a URI has in parts."""
    host = str(connection.host)
    if "://" in host:
        return host
    scheme = connection.schema if connection.schema in ("http", "https") else "https"
    port = f":{connection.port}" if connection.port else ""
    name, slash, path = host.partition("/")
    return f"{scheme}://{name}{port}{slash}{path}"


def seconds(conn_id: str, field: str, value: Any, default: float) -> float:
    """Read a time in seconds from a connection's extra.

    :param default: where the field is not set.
    :return: the time.
    :raises InvalidInput: for what is no number above zero.
    """
    if value in (None, ""):
        return default
    with contextlib.suppress(TypeError, ValueError):
        found = float(value)
        if 0 < found < math.inf and not isinstance(value, bool):
            return found
    raise InvalidInput(
        f"connection {conn_id!r} has {field} {value!r}",
        field=f"{conn_id}.{field}",
        value=value,
        remedy="Give seconds, a number above zero.",
    )


def known_to_airflow(text: str) -> str:
    """Take out of a text the secrets of all connections and variables that Airflow has read in this process.

    :return: the text without them.
    """
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # it is exported there by an import only

    return str(redact(text))
