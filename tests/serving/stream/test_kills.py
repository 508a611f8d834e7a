"""Everything is killed while models switch: every record is scored once, and by the model that the table names."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import pytest

from airflow_pipeops.serving.stream.releases import Release
from tests.kafka import broker
from tests.serving.stream.conftest import Stream

#: Records of the thorough run; a smaller one may be asked for.
COUNT = int(os.environ.get("PIPEOPS_STREAM_RECORDS", "200000"))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_members_and_broker_are_killed_while_models_switch(models, tmp_path):
    """Members, the broker and all members at once are killed in turn; each model takes over at the offset in the table."""
    chance, partitions = random.Random(11), 4
    each = COUNT // partitions
    with broker() as kafka:
        stream = Stream(kafka, tmp_path, partitions, STREAM_BATCH="500", STREAM_LINGER="0.02")
        stream.respawn = True
        try:
            starts = {"r1": dict.fromkeys(range(partitions), 0)}
            for number, share in enumerate((0.25, 0.5, 0.75), 2):
                starts[f"r{number}"] = {p: int(each * share) + 17 * p for p in range(partitions)}
            table = [Release(name, models[int(name[1:]) % 3], start) for name, start in starts.items()]
            stream.release(table[0], *(Release(one.revision, one.model) for one in table[1:]))
            stream.produce(count=each)
            began = time.monotonic()
            for name in ("a", "b"):
                stream.member(name)
            # All are announced; the members know each start long before they come to it.
            stream.until(lambda found: all(set(starts) <= set(one[1].ready) for one in found.values()), 300)
            stream.release(*table)
            kills = {"member": 0, "all members": 0, "broker": 0}
            total = each * partitions
            while (done := sum(one[0] for one in stream.committed().values())) < total:
                # The next kill comes when so much more is done, so that a slow machine is not killed more often.
                goal = min(total, done + chance.randrange(total // 40, total // 10))
                stream.until(lambda found, goal=goal: sum(one[0] for one in found.values()) >= goal, 900)
                what = chance.choice(("member", "member", "all members", "broker"))
                kills[what] += 1
                if what == "broker":
                    kafka.kill()
                    kafka.start()
                else:
                    alive = [one for one in stream.members if one.process.poll() is None]
                    for one in alive if what == "all members" else alive[:1]:
                        one.kill()
                stream.members = [one for one in stream.members if one.process.poll() is None]
                for name in sorted({"a", "b"} - {one.name for one in stream.members}):
                    stream.member(name)
            took = time.monotonic() - began
            seen: dict[str, int] = {}
            wrong = []
            for message in kafka.records(stream.output):
                said = {name: value.decode() for name, value in message.headers()}
                _, partition, offset = said["src"].split("/")
                begun = [name for name, start in starts.items() if start[int(partition)] <= int(offset)]
                if said["rev"] != begun[-1] or said["model-sha"] != models[int(begun[-1][1:]) % 3].sha256:
                    wrong.append(said)
                seen[message.key().decode()] = seen.get(message.key().decode(), 0) + 1
            keys = {f"{p}-{n}" for n in range(each) for p in range(partitions)}
            figures = {
                "records": len(keys), "seconds": round(took), "kills": kills, "lost": len(keys - set(seen)),
                "twice": sum(count > 1 for count in seen.values()), "wrong model": len(wrong),
                "starts": {name: list(start.values()) for name, start in starts.items()},
            }  # fmt: skip
            print(json.dumps(figures), file=sys.stderr)
            if target := os.environ.get("PIPEOPS_STREAM_FIGURES"):
                Path(target).write_text(json.dumps(figures), encoding="utf-8")
            assert (figures["lost"], figures["twice"], wrong[:3]) == (0, 0, [])
            assert set(seen) == keys
        finally:
            stream.stop()
