"""An explanation as one HTML page: without a script, and without anything that has to be fetched. Pure."""

from __future__ import annotations

from html import escape

from airflow_pipeops.operations.changes.suspects import Explanation, Suspect

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884;
  overflow-wrap: anywhere }
code { font-size: .85em }
td.number { text-align: right; font-variant-numeric: tabular-nums }
"""

_BESIDE = "In the words of a language model, which may be wrong: what counts is the ranking."


def page(found: Explanation, words: str = "") -> str:
    """Return the page.

    :param found: the explanation.
    :param words: in which a model has put it.
    :return: HTML; whatever the records hold, or the model says, is text in it.
    """
    asked = found.symptom
    where = f" in {asked.environment}" if asked.environment else ""
    title = escape(f"What changed before: {asked.deliverable}{where}")
    parts = "".join(_suspect(place, one) for place, one in enumerate(found.suspects, 1))
    beside = f"<aside><p>{escape(words)}</p><p><small>{_BESIDE}</small></p></aside>" if words else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p>{escape(asked.what)} ({escape(asked.kind)}). It began between {escape(asked.start[:19])}Z
and {escape(asked.end[:19])}Z.</p>
<p><strong>{escape(found.outcome.capitalize())}.</strong> {escape(found.reason)}. None of these: {found.none:.0%}.</p>
{beside}{parts}
</main></body></html>"""


def _suspect(place: int, one: Suspect) -> str:
    change = one.candidate
    arguments = "".join(
        f'<tr><td>{escape(item.name)}</td><td class="number">{item.value:+.2f}</td><td>{escape(item.reason)}</td></tr>'
        for item in one.contributions
        if item.value
    )
    check = (
        f"<p>{escape(one.check.what)} <code>{escape(one.check.command)}</code></p>" if one.check.what else ""
    )
    link = (
        f', <a href="{escape(change.link)}" rel="noopener noreferrer">look at it</a>' if change.link else ""
    )
    return (
        f"<h2>{place}. {escape(change.what or change.kind)}: {one.probability:.0%}</h2>"
        f"<p>{escape(change.kind)} of {escape(change.deliverable)}, {escape(change.at[:19])}Z, record"
        f" <code>{escape(change.id[:12])}</code>{link}</p>{check}"
        f"<table><caption>Log odds</caption><tbody>{arguments}</tbody></table>"
    )
