"""What a member of the group is told by its environment.

``STREAM_GROUP``, ``STREAM_TOPIC``, ``STREAM_OUTPUT`` and ``STREAM_RELEASES`` (folder of the release table) must be set;
``KAFKA_CONFIG`` names a JSON file with the configuration of the client, ``bootstrap.servers`` in it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.environment import names, whole

Delivery = Literal["exactly-once", "at-least-once"]

#: What the service itself must decide: another value would lose records, or score some twice.
_OURS = (
    "auto.offset.reset",
    "client.id",
    "enable.auto.commit",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "transactional.id",
)


@dataclass(frozen=True)
class Settings:
    """The environment, checked.

    :param kafka: configuration of the client.
    :param group: the consumer group (``STREAM_GROUP``).
    :param topic: that is read (``STREAM_TOPIC``).
    :param output: topic of the scores (``STREAM_OUTPUT``).
    :param dead: topic of records that cannot be scored; without it, the first of them pauses its partition
        (``STREAM_DEAD_LETTER``).
    :param releases: folder of the release table, one file for each release (``STREAM_RELEASES``).
    :param delivery: ``exactly-once``, by transactions, or ``at-least-once`` (``STREAM_DELIVERY``).
    :param batch: records that are scored at once, at most (``STREAM_BATCH``).
    :param linger: seconds to wait for a batch to fill (``STREAM_LINGER``).
    :param report: seconds after which a partition that is idle is reported again (``STREAM_REPORT``).
    :param poison_share: share of the last records beyond which a partition is paused (``STREAM_POISON_SHARE``).
    :param most_behind: seconds that scores may be late before the service is not healthy (``STREAM_MOST_BEHIND``).
    :param member: name of this member, unique in the group (``STREAM_MEMBER``; the host's name).
    :param host: address of health and metrics (``HOST``).
    :param port: of them; 0 is any free one (``PORT``).
    :param trusted: further types that an artifact may hold (``MODEL_TRUSTED``).
    """

    kafka: Mapping[str, Any] = field(repr=False)
    group: str
    topic: str
    output: str
    releases: Path
    dead: str = ""
    delivery: Delivery = "exactly-once"
    batch: int = 500
    linger: float = 0.1
    report: float = 5.0
    poison_share: float = 0.2
    most_behind: float = 60.0
    member: str = ""
    host: str = "0.0.0.0"
    port: int = 8080
    trusted: tuple[str, ...] = ()


def settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment.

    :return: what the member shall do.
    :raises InvalidInput: naming the variable that is missing or wrong.
    """

    def needed(name: str) -> str:
        if value := environment.get(name, "").strip():
            return value
        raise InvalidInput(f"{name} is not set", field=name, remedy="Set it in the Deployment.")

    def number(name: str, default: float, least: float, most: float) -> float:
        text = environment.get(name) or str(default)
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            said = f"{name} is {text!r}, not a number from {least:g} to {most:g}"
            raise InvalidInput(said, field=name, value=text)
        return found

    return Settings(
        kafka=_kafka(needed("KAFKA_CONFIG")),
        group=needed("STREAM_GROUP"),
        topic=needed("STREAM_TOPIC"),
        output=needed("STREAM_OUTPUT"),
        releases=Path(needed("STREAM_RELEASES")),
        dead=environment.get("STREAM_DEAD_LETTER", "").strip(),
        delivery=one_of(
            "STREAM_DELIVERY",
            environment.get("STREAM_DELIVERY") or "exactly-once",
            ("exactly-once", "at-least-once"),
        ),
        batch=whole(environment, "STREAM_BATCH", 500, high=100_000),
        linger=number("STREAM_LINGER", 0.1, 0.001, 10),
        report=number("STREAM_REPORT", 5, 0.1, 60),
        poison_share=number("STREAM_POISON_SHARE", 0.2, 0, 1),
        most_behind=number("STREAM_MOST_BEHIND", 60, 0.1, 10**9),
        member=environment.get("STREAM_MEMBER") or socket.gethostname(),
        host=environment.get("HOST") or "0.0.0.0",
        port=whole(environment, "PORT", 8080, low=0, high=65535),
        trusted=names(environment, "MODEL_TRUSTED"),
    )


def _kafka(path: str) -> dict[str, Any]:
    try:
        found = parsed(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"KAFKA_CONFIG {path!r} cannot be read: {error}", field="KAFKA_CONFIG", value=path
        ) from error
    if not isinstance(found, dict) or not found.get("bootstrap.servers"):
        raise InvalidInput(
            f"KAFKA_CONFIG {path!r} names no bootstrap.servers",
            field="KAFKA_CONFIG",
            value=path,
            remedy='Write {"bootstrap.servers": "host:port", ...}, with the names of librdkafka.',
        )
    if ours := sorted(set(found) & set(_OURS)):
        raise InvalidInput(
            f"KAFKA_CONFIG {path!r} sets {ours[0]}, which the service decides",
            field=f"KAFKA_CONFIG.{ours[0]}",
            remedy="Take it out.",
        )
    return found
