"""One look over all series: what is unusual since the last one, what hangs together, and the page that shows it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.operations.anomalies.judging import AnomalyJudge, replayed
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.recorded import key_of
from airflow_pipeops.operations.anomalies.runs import Values
from airflow_pipeops.operations.anomalies.verdict import (
    AnomalyGroup,
    AnomalyVerdict,
    amount,
    grouped,
    iso,
)

#: A record has room for so many alarms, and a page for so many lines.
_TOLD, _LINES = 20, 1000
_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse}"
    "td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ccc;vertical-align:top}"
)


@dataclass(frozen=True)
class Look(JsonForm):
    """What a look has found.

    :param since: it judges what became known from here on.
    :param until: and up to here.
    :param alarms: what hangs together is one.
    :param verdicts: of everything that is not ordinary.
    :param looked: number of values that were judged.
    :param cannot_tell: number of those of which nobody can tell yet.
    :param series: number of series.
    :param budget_left: owner -> false alarms of this week's budget that are not used up.
    """

    since: str
    until: str
    alarms: tuple[AnomalyGroup, ...]
    verdicts: tuple[AnomalyVerdict, ...]
    looked: int
    cannot_tell: int
    series: int
    budget_left: Mapping[str, float]

    @property
    def open(self) -> list[str]:
        """Names of what was told of while it still grows."""
        return sorted(key_of(one.to_json()) for one in self.verdicts if one.anomalous and one.running)

    def facts(self, policy: AnomalyPolicy) -> dict[str, Any]:
        """Return what a record and a result say of it."""
        return {
            "alarms": [_alarm(group) for group in self.alarms[:_TOLD]],
            "count": len(self.alarms),
            "looked": self.looked,
            "cannot_tell": self.cannot_tell,
            "since": self.since,
            "until": self.until,
            "open": self.open[:_TOLD],
            "policy": policy.to_json(),
        }


def look(
    values: Values,
    policy: AnomalyPolicy,
    since: float,
    now: float,
    parents: Mapping[str, frozenset[str]],
    told: Collection[str] = (),
) -> Look:
    """Replay all values, and judge those that are new.

    :param values: of all series, with as much of their past as there is.
    :param policy: the numbers.
    :param since: what became known earlier was judged before.
    :param now: the time.
    :param parents: subject -> those that it is made from.
    :param told: names of what was told of while it was growing: it is not told again, neither now nor when it has ended.
    :return: what was found.
    """
    judge = AnomalyJudge(policy)
    found = list(replayed(values.closed, judge, since))
    found += [judge.still(name, point) for name, point in values.open]
    new = [one for one in found if not (one.anomalous and key_of(one.to_json()) in told)]
    left = {one.owner: one.budget_left for one in found if one.budget_left is not None}
    outcomes = Counter(one.outcome for one in found)
    return Look(
        iso(since),
        iso(now),
        grouped(new, dict(parents)),
        tuple(one for one in new if one.outcome != "ordinary"),
        outcomes["ordinary"] + outcomes["anomalous"],
        outcomes["cannot tell"],
        len({name for name, _ in (*values.closed, *values.open)}),
        left,
    )


def page(found: Look, policy: AnomalyPolicy) -> str:
    """Write a look as a page.

    :param found: the look.
    :param policy: by which it was judged.
    :return: HTML; whatever Airflow and people named is text in it.
    """
    alarms = "".join(_rows(group) for group in found.alarms[:_LINES]) or '<tr><td colspan="5">None.</td></tr>'
    quiet = "".join(
        f"<tr><td>{escape(one.outcome)}</td><td>{escape(one.at)}</td><td>{escape(one.reason)}</td></tr>"
        for one in [one for one in found.verdicts if not one.anomalous][:_LINES]
    )
    left = ", ".join(
        f"{escape(owner or 'nobody')} {budget:.2f}" for owner, budget in sorted(found.budget_left.items())
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Anomalies</title><style>{_STYLE}</style></head><body><main>
<h1>{len(found.alarms)} alarms among {found.looked} values of {found.series} series</h1>
<p>From {escape(found.since)} to {escape(found.until)}. Budget: {policy.budget:g} false alarms a week for each owner; left of
this week's: {left or "nothing was judged"}. Of {found.cannot_tell} values nobody can tell yet.</p>
<table><caption>Alarms, the root of what hangs together first</caption><thead><tr><th scope="col">Finding</th>
<th scope="col">When</th><th scope="col">What</th><th scope="col">Usual</th><th scope="col">Rests on</th></tr></thead>
<tbody>{alarms}</tbody></table>
<h2>Not judged</h2>
<table><tbody>{quiet}</tbody></table>
</main></body></html>"""


def _rows(group: AnomalyGroup) -> str:
    return "".join(
        f"<tr><td>{escape(one.finding)}</td><td>{escape(one.onset[1] if one.onset else one.at)}</td>"
        f"<td>{escape(one.reason)}</td><td>{amount(one.kind, one.expected or 0)}</td>"
        f"<td>{one.history} values{f'; chance {one.chance:.1e}' if one.chance is not None else ''}</td></tr>"
        for one in group.verdicts
    )


def _alarm(group: AnomalyGroup) -> dict[str, Any]:
    first = group.verdicts[0].to_json()
    kept = (
        "kind",
        "variant",
        "finding",
        "at",
        "run",
        "expected",
        "seen",
        "owner",
        "dag",
        "running",
        "chance",
    )
    told = {part: first[part] for part in kept} | {"onset": list(first["onset"])}
    return {"root": group.root, "subjects": list(group.subjects[:_TOLD]), "reason": group.says[:300], **told}
