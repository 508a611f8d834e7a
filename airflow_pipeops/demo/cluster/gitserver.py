"""``python -m airflow_pipeops.demo.cluster.gitserver``: a small Git server over HTTP. For trials, not for production.

Whoever reaches it may read. To push, a login is needed: that of a connection of type Git repository, found in the
environment as Airflow writes it (``AIRFLOW_CONN_...``), so that the server and its writers cannot disagree.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from airflow_pipeops.demo.seeds import run_git
from airflow_pipeops.exceptions import InvalidInput, NotConfigured

#: Seconds for which a client may be silent, and Git may work on one request.
SILENCE, LONGEST = 60, 600


class GitServer(ThreadingHTTPServer):
    """Serves the bare repositories of a folder.

    :param root: the folder.
    :param accounts: ``user:password`` of those who may push.
    :param address: host and port to listen on.
    :param handler: answers one request.
    """

    daemon_threads = True

    def __init__(
        self,
        root: Path,
        accounts: Iterable[str],
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
    ) -> None:
        self.root = root
        self.allowed = [b"Basic " + base64.b64encode(account.encode()) for account in accounts]
        super().__init__(address, handler)

    def knows(self, authorization: str) -> bool:
        """Say whether a header is the login of somebody who may push."""
        # All are compared, so that the time tells nothing.
        return any([hmac.compare_digest(authorization.encode(), one) for one in self.allowed])


class Handler(BaseHTTPRequestHandler):
    """Hands requests to ``git http-backend``, as a web server would by CGI."""

    server: GitServer
    timeout = SILENCE

    def do_GET(self) -> None:
        """Answer a read."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a fetch or a push."""
        self._serve()

    def log_message(self, *_: object) -> None:
        """Log nothing: Kubernetes asks every few seconds."""

    def permitted(self) -> bool:
        """Say whether this request may be answered: reads may, and pushes of those who show a login."""
        return "git-receive-pack" not in self.path or self.server.knows(self.headers.get("Authorization", ""))

    def _serve(self) -> None:
        body = self._body()
        if self.path == "/healthz":
            return self._answer(200, {}, b"")
        if not self.permitted():
            return self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        parts = urlsplit(self.path)
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            timeout=LONGEST,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_PROJECT_ROOT": str(self.server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                # Git itself takes no push from nobody, however the request is spelt.
                "REMOTE_USER": "airflow" if self.server.knows(self.headers.get("Authorization", "")) else "",
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n") if line)
        self._answer(int(headers.pop("Status", "200" if head else "500").split()[0]), headers, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


def account(conn_id: str, environment: Mapping[str, str]) -> str:
    """Read the login of a connection in the environment.

    :return: ``user:password``.
    :raises NotConfigured: where it is not there.
    :raises InvalidInput: where it has no password.
    """
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    text = environment.get(variable)
    if not text:
        raise NotConfigured({conn_id: "git_repository"})
    try:
        given = json.loads(text)
        password = given["password"]
    except (ValueError, TypeError, KeyError):
        raise InvalidInput(
            f"connection {conn_id!r} has no password",
            field=variable,
            remedy='Write it as JSON: {"conn_type": "git_repository", "host": "...", "password": "..."}.',
        ) from None
    return f"{given.get('login') or 'x-access-token'}:{password}"


def main() -> None:
    """Make the repositories that are not there, and serve until the end is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the bare repositories")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--repository", action="append", default=[], help="made, if it is not there")
    parser.add_argument("--account", action="append", default=[], help="connection whose login may push")
    options = parser.parse_args()
    for name in options.repository:
        if not (options.root / name / "HEAD").exists():
            run_git(options.root, "init", "--quiet", "--bare", "--initial-branch=main", name)
    accounts = [account(one, os.environ) for one in options.account]
    with GitServer(options.root, accounts, (options.host, options.port), Handler) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"serving {options.root} on port {server.server_port}", flush=True)
        server.serve_forever(0.1)


if __name__ == "__main__":
    main()
