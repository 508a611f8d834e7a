"""What a Kafka client reports, as errors of ours."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import (
    AccessDenied,
    InvalidInput,
    MissingExtra,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt

if TYPE_CHECKING:
    from types import ModuleType

_DENIED = frozenset(
    {
        "_AUTHENTICATION",
        "CLUSTER_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    }
)
_MISSING = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "GROUP_ID_NOT_FOUND"})
_AWAY = frozenset(
    {
        "_ALL_BROKERS_DOWN",
        "_RESOLVE",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_TRANSPORT",
        "BROKER_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "LEADER_NOT_AVAILABLE",
        "NOT_COORDINATOR",
        "NOT_LEADER_FOR_PARTITION",
        "REQUEST_TIMED_OUT",
    }
)


def library() -> ModuleType:
    """Import the client library.

    :return: the library.
    :raises MissingExtra: where it is not installed.
    """
    try:
        import confluent_kafka
    except ImportError as error:
        raise MissingExtra("confluent-kafka", "stream") from error
    return confluent_kafka


def name_of(error: Any) -> str:
    """Return the name of an error of the library, for example ``_TRANSPORT``; empty for another exception."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    name = getattr(inner, "name", None)
    return str(name()) if callable(name) else ""


def error_of(error: Any, about: str) -> PipeOpsError:
    """Turn an error of the client library into one of ours.

    :param error: a ``KafkaException``, a ``KafkaError``, or a time-out.
    :param about: what was asked for, for example ``topic 'orders'``.
    :return: the error.
    """
    name = name_of(error)
    said = excerpt(
        str(getattr(error.args[0], "str", lambda: error)() if getattr(error, "args", None) else error), 300
    )
    if isinstance(error, ValueError) or name in ("_INVALID_ARG", "_CONFLICT"):
        return InvalidInput(f"the Kafka client refuses its configuration: {said}", field="extra")
    if name in _DENIED:
        right = "Write, Describe and IdempotentWrite" if "TRANSACTION" in name else "Read and Describe"
        remedy = f"Check user and password, and that ACLs allow {right} on the topics and the group."
        return AccessDenied(f"Kafka refuses {about}: {said} ({name})", remedy=remedy)
    if name in _MISSING:
        remedy = "Check the name; the service makes no topic, since nobody has said how many partitions it shall have."
        return NotFound(f"Kafka has no {about} ({name})", remedy=remedy)
    if name in _AWAY or not name:
        return Unreachable(f"Kafka gave no answer about {about}: {said}{f' ({name})' if name else ''}")
    return SystemFailure(f"Kafka failed on {about}: {said} ({name})")


def called(about: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Make a call of the client library.

    :param about: what is asked for; see :func:`error_of`.
    :param call: to make, with the arguments that follow.
    :return: its answer.
    :raises PipeOpsError: where it fails.
    """
    try:
        return call(*given, **named)
    except (library().KafkaException, concurrent.futures.TimeoutError) as error:
        raise error_of(error, about) from error
    except PipeOpsError:
        raise
    except RuntimeError as error:
        raise SystemFailure(f"the Kafka client failed on {about}: {error}") from error


def partitions_of(client: Any, topic: str, timeout: float) -> int:
    """Count the partitions of a topic.

    :param client: of any kind.
    :param topic: its name.
    :param timeout: seconds that Kafka has to answer.
    :return: how many it has.
    :raises NotFound: where it is not there.
    """
    about = f"topic {topic!r}"
    found = called(about, client.list_topics, topic, timeout=timeout).topics[topic]
    if found.error is not None:
        raise error_of(found.error, about)
    if not found.partitions:
        raise NotFound(f"{about} has no partition")
    return len(found.partitions)
