"""Many calls to one API server, by a client that takes a quarter of the time that httpx takes for each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.http import (
    Answer,
    Http,
    Unsent,
    collected,
    untrusted,
    words,
)
from airflow_pipeops.exceptions import InvalidInput, Unreachable

if TYPE_CHECKING:
    import aiohttp

    from airflow_pipeops.kubernetes.kubeconfig import Connection


class ManyCalls(Http):
    """Calls to one server, over connections that are kept; streams, and what goes through a proxy, stay with httpx.

    :param connection: to the server.
    :param options: arguments of :class:`~airflow_pipeops.base.http.Http`.
    """

    def __init__(self, connection: Connection, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self._connection = connection

    async def once(self, method: str, path: str, about: str, request: Mapping[str, Any]) -> bytes:
        """Make one call, once; see :meth:`~airflow_pipeops.base.http.Http.once`."""
        import aiohttp

        session = await self._connection.session()
        if session is None:
            return await super().once(method, path, about, request)
        self.url = self._connection.url
        call = self.asked(method, request)
        query = f"?{urlencode(call.params)}" if call.params else ""
        headers = {**self._connection.headers, **call.headers}
        exchange = _exchanged(
            session, method, self.url + path + query, call.most,
            data=call.content, headers=headers, server_hostname=self._connection.server_name,
        )  # fmt: skip
        try:
            answer = await within(call.timeout, exchange)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if refused := untrusted(self.url, error):
                raise refused from error
            raise Unsent(
                Unreachable(f"{self.url} does not answer: {words(error)}", remedy="Is the server up?")
            ) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise InvalidInput(f"{self.url} is no usable URL: {error}", field="host") from error
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(f"{self.url} gave no whole answer about {about}: {words(error)}") from error
        except ValueError as error:
            # Of a URL that cannot be read, or holds a password, and of a credential that no header can hold.
            raise InvalidInput(
                f"{self.url} cannot be called: {words(error)}",
                field="host",
                remedy="Use http(s)://host[:port][/path], without user name and password, and a credential of one line.",
            ) from error
        return self.judged(answer, about)


async def _exchanged(session: aiohttp.ClientSession, method: str, url: str, most: int, **sent: Any) -> Answer:
    from yarl import URL

    async with session.request(method, URL(url, encoded=True), allow_redirects=False, **sent) as response:
        encoding = response.headers.get("Content-Encoding", "")
        content = await collected(response.content.iter_any(), encoding, response.status, most)
        return Answer(response.status, response.headers.get("Retry-After", ""), content)
