"""Score a Kafka topic: ``python -m airflow_pipeops.serving.stream``, set up by its environment.

A wrong setting, a topic that is missing and a right that is missing end the process with status 2 and one line; what a
restart may mend, with status 1. SIGTERM lets the batch in hand end: it is committed, and the group is left.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time

from airflow_pipeops.exceptions import PipeOpsError


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # members stand side by side; threads inside a batch would wait
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    from airflow_pipeops.serving.stream import reporting
    from airflow_pipeops.serving.stream.broker import Broker
    from airflow_pipeops.serving.stream.member import Member
    from airflow_pipeops.serving.stream.settings import settings

    try:
        configured = settings(os.environ)
        member = Member(configured, Broker(configured))
        server = reporting.serve(member, configured, time.monotonic)

        def stop(*_: object) -> None:
            member.stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        host, port = server.server_address[:2]
        print(f"scoring {configured.topic} as {configured.member} on http://{host!s}:{port}", flush=True)
        member.run()
    except PipeOpsError as error:
        print(f"cannot go on: {error}", file=sys.stderr, flush=True)
        return 1 if error.retryable else 2
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
