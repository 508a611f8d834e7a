"""The page about a verdict, for a person. Pure: a judgement in, HTML out; every text of the data is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from airflow_pipeops.llm.gate.decision import GateVerdict, told
from airflow_pipeops.llm.gate.effects import Effect
from airflow_pipeops.llm.gate.judging import Judgement
from airflow_pipeops.llm.gate.policy import RATIOS, GatePolicy

#: Of a list, so many are shown.
_SHOWN = 200
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1a202c}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #cbd5e0;padding:.25rem .75rem;"
    "text-align:left;vertical-align:top}.v{padding:.75rem 1rem;background:#edf2f7;border-left:.4rem solid #718096}"
    ".better,.not-worse{border-color:#2f855a}.worse,.invalid{border-color:#c53030}"
)


def page(found: Judgement, policy: GatePolicy, facts: Mapping[str, Any]) -> str:
    """Write the page.

    :param found: the judgement.
    :param policy: by which it was judged.
    :param facts: name -> what else is to be shown, such as both arms' digests.
    :return: HTML, without a program.
    """
    verdict, seen = found.verdict, found.seen
    margins = {
        name: policy.margin if name == policy.metric else policy.guards[name] for name in policy.metrics
    }
    parts = [
        f"<p class='v {verdict.outcome.replace(' ', '-')}'><b>{escape(verdict.outcome)}</b>: the gate "
        f"{'opens' if verdict.opens else 'stays closed'}. {escape(verdict.reason)}</p>",
        "<h2>Metrics</h2>",
        _table(
            ("metric", "what was seen", "may be lost", "differ", "won : lost", "method"),
            [
                (*_row(one, policy), f"{margins[one.gain.metric]:g}", *_counts(one))
                for one in (seen.primary, *seen.guards)
            ],
        ),
    ]
    if seen.slices:
        rows = [
            (name, *_row(one, policy)[1:], "harmed" if name in verdict.harmed else one.doubt)
            for name, one in seen.slices.items()
        ]
        parts += ["<h2>Slices</h2>", _table(("slice", "what was seen", ""), rows)]
    if verdict.failed or found.barred:
        fails = [(name, "fails") for name in verdict.failed]
        fails += [(name, "flips by itself, and closes nothing alone") for name in found.barred]
        parts += ["<h2>What must never fail</h2>", _table(("item", ""), fails)]
    if any(map(sum, found.missing.values())):
        gone = [(name, new, old, found.asked) for name, (new, old) in found.missing.items()]
        parts += ["<h2>Missing scores</h2>", _table(("scorer", "candidate", "baseline", "of"), gone)]
    if found.judges:
        rows = [(name, _judge(found, name), seen.judges.get(name) or "good enough") for name in found.judges]
        parts += ["<h2>Judges</h2>", _table(("judge", "measured", ""), rows)]
    parts += ["<h2>Power</h2>", _power(verdict, seen.primary, policy), "<h2>What was compared</h2>"]
    parts.append(_table(("", ""), facts.items()))
    title = f"Gate: {verdict.outcome}"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    kept = list(rows)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in kept[:_SHOWN]
    )
    more = f"<p>And {len(kept) - _SHOWN:,} more.</p>" if len(kept) > _SHOWN else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><tr>{names}</tr>{body}</table>{more}"


def _row(effect: Effect, policy: GatePolicy) -> tuple[str, str]:
    said = told(effect, policy.alpha) + (f"; {effect.doubt}" if effect.doubt else "")
    return effect.gain.metric, said.removeprefix(f"{effect.gain.metric}: ")


def _counts(effect: Effect) -> tuple[str, str, str]:
    votes = f"{effect.wins} : {effect.losses}" if effect.votes else ""
    return f"{effect.differing:,} of {effect.gain.units:,}", votes, effect.method()


def _judge(found: Judgement, name: str) -> str:
    known, said = found.judges[name], []
    if agrees := known.agreement:
        low, high = agrees.interval
        said.append(
            f"kappa {agrees.kappa:.2f} ({low:.2f} to {high:.2f}) on {agrees.labels} answers that people have labelled; it "
            f"agrees on {agrees.agreed:.0%}, and who always says the same does on {agrees.constant:.0%}"
        )
    for what, flips in (("asked again", known.again), ("in the other order", known.positions)):
        if flips is not None:
            said.append(f"{what}, it changes its mind in {flips.flipped} of {flips.pairs} pairs")
    return "; ".join(said) or "never"


def _power(verdict: GateVerdict, primary: Effect, policy: GatePolicy) -> str:
    from airflow_pipeops.llm.gate.power import need

    found = verdict.need or need(
        primary, abs(primary.gain.value), policy.alpha, policy.power, policy.item_cost
    )
    rows: list[tuple[str, str]] = [("chance of an error on either side", f"{policy.alpha:g}")]
    if found.detectable:
        ratio = policy.metric in RATIOS
        loss = f"{math.expm1(found.detectable):.1%}" if ratio else f"{found.detectable:.4f}"
        rows.append((f"smallest true loss that these items find with a chance of {policy.power:.0%}", loss))
    if verdict.need and found.items:
        rows.append(("items that would settle it", f"{found.items:,}"))
    if verdict.need and found.runs:
        rows.append(("or runs of each item", str(found.runs)))
    if noise := primary.noise:
        rows.append(("variance between items", f"{noise.between:.4f}"))
        if noise.within is not None:
            rows.append(("variance of one run, of both arms", f"{noise.within:.4f}"))
    if found.best_runs:
        rows.append(("runs of each item that cost least", str(found.best_runs)))
    return _table(("", ""), rows)
