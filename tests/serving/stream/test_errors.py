"""What a call of the Kafka client comes to that gives no answer."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from airflow_pipeops.exceptions import NotFound, SystemFailure, Unreachable
from airflow_pipeops.serving.stream.errors import called


def test_an_answer_that_does_not_come_is_one_of_our_errors():
    with pytest.raises(Unreachable, match="no answer about group 'g'"):
        called("group 'g'", Future().result, 0.01)


def test_what_the_client_says_of_itself_and_what_we_say_already():
    def ends(error: Exception) -> None:
        raise error

    with pytest.raises(SystemFailure, match="failed on topic 't': Consumer closed"):
        called("topic 't'", ends, RuntimeError("Consumer closed"))
    with pytest.raises(NotFound, match="none"):
        called("topic 't'", ends, NotFound("none"))
