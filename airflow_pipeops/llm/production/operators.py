"""Sample what was asked and answered in production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import files, mapping, one_of
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production.traces import Format
from airflow_pipeops.models.operators.arguments import UI_COLOR, moment, storage_root

if TYPE_CHECKING:
    from airflow.sdk import Context

FORMATS: tuple[Format, ...] = ("otlp", "jsonl", "langfuse")


class SampleTracesOperator(DeliveryOperator):
    """Keep a sample of the calls of a model, masked, of one window of time.

    Secrets and personal data are replaced before anything is stored, logged or returned. Whole conversations are drawn, by
    the hash of their id: the same window gives the same calls, in whatever order they come, in place of what was kept of it.

    Returns ``{uri, sha256, app, start, end, counts, record_id}``; ``counts`` says what was masked and what was left out, and
    why. The record is a ``dataset``.

    :param app: whose calls they are; the name under which they are found again.
    :param source: files, or folders of files, with a JSON object on each line; templated.
    :param format: ``otlp`` (traces of OpenTelemetry with GenAI attributes), ``jsonl`` (a log of requests) or ``langfuse``
        (exported observations or traces).
    :param start: of the window; templated. By default the run's data interval.
    :param end: of the window, which does not belong to it; templated.
    :param share: of the conversations that is drawn.
    :param most: calls that are kept at most; beyond them the share is made smaller.
    :param fields: for ``jsonl``: field of a call -> where it is in a line, such as ``usage.prompt_tokens``.
    :param text: characters of an input or answer that are kept.
    :param seed: of the draw; another one draws others.
    :param artifacts_conn_id: where calls are kept.
    """

    template_fields: Sequence[str] = ("app", "source", "start", "end", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("dataset",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        app: str,
        source: str | Sequence[str],
        format: Format = "otlp",
        start: str = "{{ data_interval_start | ts }}",
        end: str = "{{ data_interval_end | ts }}",
        share: float = 1.0,
        most: int = 20_000,
        fields: Mapping[str, str] | None = None,
        text: int = 16_384,
        seed: str = "",
        artifacts_conn_id: str = "pipeops_artifacts",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        from airflow_pipeops.llm.production.calls import COLUMNS
        from airflow_pipeops.llm.production.sampling import Draw

        self.app = app
        self.source = source
        self.format: Format = one_of("format", format, FORMATS)
        self.start, self.end = start, end
        self.draw = Draw(share, most, text, seed)
        self.fields = dict(mapping("fields", fields or {}, "Give {field of a call: where it is in a line}."))
        self.artifacts_conn_id = artifacts_conn_id
        for name in self.fields:
            one_of("fields", name, COLUMNS, called="field of a call")

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, draw, mask, keep, record."""
        from dataclasses import replace

        from airflow_pipeops.llm.production import sampling, store, traces

        with no_retry():
            app, uris = store.app_name(self.app), files("source", self.source)
            start, end = window(self.start, self.end)
            read, unreadable = traces.reader(self.format, self.fields), list[str]()
            every = (call for line in store.lines(uris, unreadable) for call in read(line))
            calls, counts = sampling.draw(every, start, end, self.draw)
            counts = replace(counts, unreadable=len(unreadable))
            if counts.over and not calls:
                raise InvalidInput(
                    f"one conversation has more than the {self.draw.most:,} calls that may be kept",
                    field="most",
                    value=self.draw.most,
                    remedy="Raise it, or let the application give each conversation an id of its own.",
                )
            root = storage_root(self.artifacts_conn_id)
            kept = store.write(root, app, "\n".join([self.format, *uris]), start, end, calls, counts)
            self.log.info("%s", counts.to_json())
            if counts.kept and counts.untagged == counts.kept:
                self.log.warning("No call says by which prompt it was made: gen_ai.prompt.digest is not set")
            facts = {
                "app": app,
                "uri": kept.file,
                "sha256": kept.sha256,
                "start": kept.start,
                "end": kept.end,
                "counts": counts.to_json(),
            }
            record = self.emit(
                context, "dataset", {"batch": f"{app} {kept.start}", "rows": counts.kept, **facts}
            )
        return {**facts, "record_id": record}


def window(start: str, end: str) -> tuple[datetime, datetime]:
    """Read the two ends of a window; without a zone they are UTC.

    :return: both, in UTC.
    :raises InvalidInput: for what is no time, or no window.
    """
    found = []
    for field, value in (("start", start), ("end", end)):
        time = moment(field, value)
        if time is None:
            raise InvalidInput(
                f"{field} is empty", field=field, value=value, remedy="Give a time in ISO 8601."
            )
        found.append((time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc))
    if found[0] >= found[1]:
        raise InvalidInput(f"the window ends at {end}, before it begins", field="end", value=end)
    return found[0], found[1]
