"""``python -m airflow_pipeops.demo.sandbox serve``: the sandbox as a program."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.images import ImageStore
from airflow_pipeops.demo.sandbox.server import LOOPBACK, Sandbox, Settings, serve
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

FIRST_LINE = "airflow-pipeops sandbox: an Argo CD-compatible target for demos and tests, not for production"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m airflow_pipeops.demo.sandbox", description=FIRST_LINE)
    command = top.add_subparsers(dest="command", required=True).add_parser("serve", help="run until SIGTERM")
    command.add_argument(
        "--state", type=Path, required=True, help="folder for all that the sandbox remembers"
    )
    command.add_argument("--artifacts", type=Path, required=True, help="folder with OCI image layouts")
    command.add_argument("--port", type=int, default=8090, help="0 takes a free port")
    command.add_argument("--host", default="127.0.0.1", help="a loopback address; nothing else is accepted")
    command.add_argument(
        "--host-image", action="append", default=[], metavar="NAME", help="image run with this Python"
    )
    command.add_argument("--reconcile-interval", type=float, default=5.0, metavar="SECONDS")
    command.add_argument("--repository-grace", type=float, default=180.0, metavar="SECONDS",
                         help="for how long an error of a repository is not reported by itself")  # fmt: skip
    command.add_argument("--watch-buffer", type=int, default=1000, metavar="EVENTS")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0 after a clean end, 2 where it could not start."""
    given = parser().parse_args(arguments)
    print(FIRST_LINE, flush=True)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        _check(given)
        _run(given)
    except PipeOpsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot serve on {given.host}:{given.port}: {error}", file=sys.stderr)
        return 2
    return 0


def _check(given: argparse.Namespace) -> None:
    if given.host not in LOOPBACK:
        raise InvalidInput(
            f"--host {given.host!r} is not a loopback address",
            field="host",
            value=given.host,
            remedy="The sandbox runs any command that a manifest names: it listens on 127.0.0.1 only.",
        )
    if not 0 <= given.port <= 65535:
        raise InvalidInput(
            f"--port {given.port} is not a port", field="port", value=given.port, remedy="Use 0 to 65535."
        )
    for field in ("reconcile_interval", "watch_buffer"):
        if getattr(given, field) <= 0:
            option = "--" + field.replace("_", "-")
            raise InvalidInput(f"{option} must be above 0", field=field, value=getattr(given, field))


def _run(given: argparse.Namespace) -> None:
    state = given.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "sandbox.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(
                f"another sandbox runs on {state}",
                field="state",
                remedy="End it first, or use another folder.",
            ) from None
        pid_file = state / "sandbox.pid"
        pid_file.write_text(f"{os.getpid()}\n")
        try:
            asyncio.run(_serve(given, state))
        finally:
            pid_file.unlink(missing_ok=True)


async def _serve(given: argparse.Namespace, state: Path) -> None:
    cluster = Cluster(state / "cluster", ImageStore(given.artifacts.resolve()), tuple(given.host_image))
    settings = Settings(state, given.reconcile_interval, given.repository_grace, given.watch_buffer)
    host = f"[{given.host}]" if ":" in given.host else given.host
    await serve(Sandbox(settings, cluster), given.host, given.port,
                lambda port: print(f"listening on http://{host}:{port}", flush=True))  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
