"""What a container leaves of its work for whoever waits for it: its last word, which a kubelet cuts. Pure."""

from __future__ import annotations

import json

from airflow_pipeops.exceptions import PipeOpsError

#: Variable that names the file for the answer, which is JSON.
ANSWER = "PIPEOPS_ANSWER"
#: Bytes of a last word that a kubelet keeps, and those the last ones: a longer one is no JSON any more.
MOST = 4096


def failure(error: PipeOpsError) -> str:
    """Say what has gone wrong, so that whoever waits raises the same; the end of a long message is left out.

    :param error: of the work.
    :return: the answer.
    """
    message, room = str(error), MOST
    while True:
        said = {"error": type(error).__name__, "message": message[:room], "retryable": error.retryable}
        answer = json.dumps(said)
        if (over := len(answer) - MOST) <= 0:
            return answer
        room = min(room, len(message)) - max(
            1, over // 12
        )  # two bytes to twelve are written for one character
