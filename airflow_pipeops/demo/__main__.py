"""``python -m airflow_pipeops.demo``: start everything, tell the story, stay up until Ctrl-C."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from airflow_pipeops.demo.configuration import surroundings
from airflow_pipeops.demo.failures import explain
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.processes import ProcessDied
from airflow_pipeops.demo.stack import Stack, StackFailed
from airflow_pipeops.demo.story import run
from airflow_pipeops.demo.teller import StoryBroken
from airflow_pipeops.exceptions import PipeOpsError

_printing = threading.Lock()


def say(line: str) -> None:
    """Print one whole line at once."""
    with _printing:
        print(line, flush=True)


def main() -> int:
    """Run the demo; 0 if every claim held, 1 if one did not, 2 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m airflow_pipeops.demo", description=__doc__)
    parser.add_argument("--headless", action="store_true", help="exit after the story")
    parser.add_argument(
        "--home", type=Path, default=Path(".demo"), help="folder for all state, wiped at each start"
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="port of the Airflow UI; the next one is used too"
    )
    parser.add_argument(
        "--node-port", type=int, default=30080, help="first of the six ports of the endpoints"
    )
    parser.add_argument("--claims", type=Path, help="where to write the claims (default: HOME/claims.json)")
    options = parser.parse_args()

    _prepare(options.home.absolute())
    ports = Ports(airflow=options.port, nodes=options.node_port)
    try:
        with Stack(options.home, ports, say) as stack:
            held = _tell(stack, options.claims or stack.home / "claims.json")
            if not options.headless:
                say(_entrance(stack))
                say("Press Ctrl-C to stop everything.")
                while True:
                    if held:
                        stack.check()
                    threading.Event().wait(5)
            return 0 if held else 1
    except KeyboardInterrupt:
        say("\nStopped.")
        return 130 if options.headless else 0
    except StackFailed as error:
        print(error, file=sys.stderr)
        return 2
    except ProcessDied as error:
        print(error, file=sys.stderr)
        return 1


def _prepare(home: Path) -> None:
    # Also where a script started us in the background, which makes Python ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # the terminal was closed; nohup has it ignored
        signal.signal(signal.SIGHUP, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no UTF-8 shows what it can
            stream.reconfigure(errors="replace")
    own = surroundings(home)
    os.environ.clear()
    os.environ.update(own)
    time.tzset()


def _entrance(stack: Stack) -> str:
    return f"Airflow is at {stack.url}   login: admin / {stack.passwords['admin']}"


def _tell(stack: Stack, claims: Path) -> bool:
    """Tell the story; where it breaks, say what a person needs, and leave everything up."""
    say(f"· {_entrance(stack)}")
    try:
        held = run(stack, claims_file=claims, say=say)
    except (ProcessDied, StoryBroken, PipeOpsError) as error:
        say("\n" + "\n".join(explain(stack, error)))
        return False
    say(f"\n{'Every claim held' if held else 'NOT every claim held'}: {claims}")
    if not held:
        say("\n".join(explain(stack)))
    return held


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
