"""A passport as one HTML page: without a script, and without anything that has to be fetched."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from airflow_pipeops.delivery.passport import told

if TYPE_CHECKING:
    from airflow_pipeops.delivery.passport import Passport
    from airflow_pipeops.delivery.queries.tracing import Step

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884;
  overflow-wrap: anywhere }
code { font-size: .85em }
.gap { border-left: .3rem dashed #b45309; padding-left: .5rem }
details pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8em }
@media print { details[open] pre { break-inside: avoid } body { margin: 0 } }
"""


def page(found: Passport) -> str:
    """Return the page.

    :param found: the passport.
    :return: HTML; whatever the records hold is text in it.
    """
    where = f" in {found.fact.environment}" if found.fact.environment else ""
    title = escape(f"Passport of {found.fact.deliverable}{where}")
    complete = (
        "Every record that it names is there."
        if found.walk.complete
        else f"It is not complete: {len(found.walk.gaps)} records that it names are not there, or not believed."
    )
    state = ""
    if found.cell:
        state = "It is live." if found.live else "It is not what is live now."
    answers = "".join(
        f'<tr><th scope="row">{escape(one.question)}</th><td>{escape(one.answer)}</td></tr>'
        for one in found.answers
    )
    steps = "".join(map(_row, found.walk.steps))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p>{state} {complete} Record <code>{escape(found.fact.id)}</code>.</p>
<table><caption>Answers</caption><tbody>{answers}</tbody></table>
<h2>Made from</h2>
<table><thead><tr><th scope="col">Record</th><th scope="col">When</th><th scope="col">What</th></tr></thead>
<tbody>{steps}</tbody></table>
</main></body></html>"""


def _row(step: Step) -> str:
    fact, ident = step.fact, f"<code>{escape(step.id[:12])}</code>"
    if fact is None:
        why = "you may not see this record" if step.hidden else "nobody holds this record any more"
        return f'<tr><td class="gap">{ident}</td><td></td><td>{why}</td></tr>'
    where = f" ({fact.environment})" if fact.environment else ""
    doubt = f"<br><strong>Not believed: {escape(fact.problem)}</strong>" if fact.problem else ""
    body = escape(json.dumps(fact.body, indent=1, ensure_ascii=False, sort_keys=True))
    mark = ' class="gap"' if step.gap else ""
    return (
        f"<tr><td{mark}>{escape(fact.kind + where)}<br>{ident}</td><td>{escape(fact.at[:19])}Z</td>"
        f"<td>{escape(told(fact))}{doubt}<details><summary>All facts</summary><pre>{body}</pre></details></td></tr>"
    )
