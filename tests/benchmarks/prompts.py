"""How long a large prompt takes to check, and when chance looks like a quote: ``python tests/benchmarks/prompts.py``."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow_pipeops.llm.prompts.leakage import leakage
from airflow_pipeops.llm.prompts.operators import rendered_of
from airflow_pipeops.llm.prompts.prompt import Prompt


def prompt(text: str) -> Prompt:
    given = {
        "name": "a",
        "model": "m",
        "template": text + " {{question}}",
        "variables": {"question": "string"},
    }
    return Prompt.from_json(given)


def words(chance: random.Random, count: int) -> str:
    """So many words, as frequent as in a language: the n-th has a share of 1/n."""
    known = range(1, 5001)
    return " ".join(f"word{n}" for n in chance.choices(known, [1 / n for n in known], k=count))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    given = parser.parse_args()
    chance = random.Random(1)
    asked = prompt(words(chance, 6000))
    items = [{"question": words(chance, 200)} for _ in range(given.items)]
    began = time.process_time()
    leakage(asked, items)
    looked = time.process_time()
    rendered_of(asked, {str(place): item for place, item in enumerate(items)})
    done = time.process_time()
    print(f"{len(asked.canonical):,} bytes, {given.items:,} items of 200 words")
    print(f"quotes: {looked - began:.1f} s; rendering: {done - looked:.1f} s")
    for run in (4, 6, 8, 10):
        shared = len(leakage(asked, items, run=run).leaks)
        print(
            f"runs of {run}: {shared} of {given.items:,} items share one by chance ({shared / given.items:.2%})"
        )
    copied = [dict(item) for item in items[:200]]
    for cut in (1.0, 0.5, 0.25):
        kept = [" ".join(one["question"].split()[: int(200 * cut)]) for one in copied]
        hits = sum(
            leakage(prompt(text), [one]).verdict == "leaks" for text, one in zip(kept, copied, strict=True)
        )
        print(f"{cut:.0%} of an item in the prompt: {hits} of {len(copied)} are found")


if __name__ == "__main__":
    main()
