"""How many records a second a streaming member scores, beside a plain loop of confluent-kafka, and the bare model.

All read the same topic of one partition on a broker of their own, of the same size of batch. ``model`` scores the records
from memory; ``loop`` reads, scores, writes, and commits its offsets by itself, without a transaction, a table, a check of a
record or a header; ``at-least-once`` and ``exactly-once`` are the service. Seconds are from the first committed record
to the last, so that no import and no start of a group counts.

Run: python tests/benchmarks/stream.py [--records 50000] [--batch 500]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["OMP_NUM_THREADS"] = "1"


def main() -> None:
    """Measure, and print one line for each."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--records", type=int, default=50_000)
    asked.add_argument("--batch", type=int, default=500)
    given = asked.parse_args()
    from airflow_pipeops.models import artifact
    from airflow_pipeops.serving.stream.releases import Release
    from tests.kafka import broker
    from tests.serving.stream.conftest import Stream, trained

    with tempfile.TemporaryDirectory() as folder, broker() as kafka:
        (model, *_) = trained(Path(folder))
        loaded = artifact.load(model.uri, model.sha256)
        values = [json.dumps({"x": (n % 97) / 50 - 1, "kind": 1}).encode() for n in range(given.records)]
        print(f"model: {given.records / bare(loaded, values, given.batch):,.0f} records/s", flush=True)
        topic, output = kafka.topic(1), kafka.topic(1)
        kafka.produce(topic, [(0, str(n).encode(), value) for n, value in enumerate(values)])
        print(
            f"loop: {given.records / loop(kafka.config, topic, output, loaded, given):,.0f} records/s",
            flush=True,
        )
        for delivery in ("at-least-once", "exactly-once"):
            place = Path(folder) / delivery
            place.mkdir()
            stream = Stream(kafka, place, 1, STREAM_DELIVERY=delivery, STREAM_BATCH=str(given.batch))
            try:
                stream.release(Release("r1", model, {0: 0}))
                stream.produce({0: values})
                stream.member()
                first = stream.until(lambda found: found[0][0] > 0, 300)[0][0]
                began = time.monotonic()
                stream.until(lambda found: found[0][0] >= given.records, 1800)
                rate = (given.records - first) / (time.monotonic() - began)
                print(f"{delivery}: {rate:,.0f} records/s", flush=True)
            finally:
                stream.stop()


def bare(loaded, values: list[bytes], batch: int) -> float:
    """Score from memory; return the seconds."""
    import pandas as pd

    began = time.monotonic()
    for first in range(0, len(values), batch):
        rows = [json.loads(value) for value in values[first : first + batch]]
        loaded.model.predict_proba(pd.DataFrame(rows)[list(loaded.manifest.features)])
    return time.monotonic() - began


def loop(config: dict, topic: str, output: str, loaded, given: argparse.Namespace) -> float:
    """Do what a plain script does; return the seconds from the first batch to the last."""
    import pandas as pd
    from confluent_kafka import Consumer, Producer

    consumer = Consumer(
        {**config, "group.id": "loop", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    producer = Producer({**config, "linger.ms": 5, "compression.type": "lz4"})
    consumer.subscribe([topic])
    done, began = 0, 0.0
    while done < given.records:
        messages = consumer.consume(given.batch, 0.1)
        if not messages:
            continue
        began = began or time.monotonic()
        rows = pd.DataFrame([json.loads(one.value()) for one in messages])[list(loaded.manifest.features)]
        for one, score in zip(messages, loaded.model.predict_proba(rows)[:, 1], strict=True):
            producer.produce(output, json.dumps({"probability": float(score)}).encode(), one.key())
            producer.poll(0)
        producer.flush()
        consumer.commit(asynchronous=False)
        done += len(messages)
    consumer.close()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
