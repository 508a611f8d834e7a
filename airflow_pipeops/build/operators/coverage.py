"""Hold what the shards of a test run cover together against a floor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput, SystemFailure, TestsFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

_DIGEST = re.compile(r"[0-9a-f]{64}")


class CoverageGateOperator(DeliveryOperator):
    """Join the coverage reports of several test tasks, by file and line, and demand a share of the lines.

    A line counts as run if any of them has run it. For the parts of a mapped
    :class:`~airflow_pipeops.build.operators.tests.RunTestsOperator`, each of which covers less than all do together.

    :param reports: the ``coverage_report`` of each task, such as ``tests.output["coverage_report"]``; templated.
    :param floor: percent of the lines that must be run.
    :param shards: how many reports there must be; by default as many as there are, and at least one.
    :param commit: SHA of the commit that was tested; templated.
    :return: ``{coverage, covered, lines, files, reports, record_id}``
    :raises TestsFailed: if too little is covered, or a task left no report: what it covers cannot be told.
    """

    template_fields: Sequence[str] = ("reports", "commit", *DeliveryOperator.template_fields)
    emits = ("validation",)
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        reports: Any,
        floor: float,
        shards: int | None = None,
        commit: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0 <= floor <= 100:
            raise InvalidInput(
                f"floor {floor!r} is no share in percent",
                field="floor",
                value=floor,
                remedy="Give a number from 0 to 100.",
            )
        self.reports = reports
        self.floor = floor
        self.shards = shards
        self.commit = commit

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the reports, join them, judge, record."""
        from airflow_pipeops.build import coverage

        with no_retry():
            digests = self._digests()
            found = coverage.joined(map(self._content, digests))
            share = found.percent
            if share < self.floor:
                # Cut and not rounded: nobody is told that 80 is less than 80.
                raise TestsFailed(
                    f"{int(share * 100) / 100:.2f} % of the lines are covered by {len(digests)} tasks together, less than "
                    f"the {self.floor:g} % asked for"
                )
            facts = {
                "coverage": round(share, 2),
                "covered": sum(found.lines.values()),
                "lines": len(found.lines),
                "files": len({file for file, _ in found.lines}),
                "reports": len(digests),
            }
            body = {"subject": "coverage", "passed": True, "floor": self.floor, **facts}
            record_id = self.emit(context, "validation", body, commit=self.commit or None)
        return {**facts, "record_id": record_id}

    def _digests(self) -> list[str]:
        given = (
            [self.reports] if self.reports is None or isinstance(self.reports, str) else list(self.reports)
        )
        missing = [number for number, one in enumerate(given) if not one]
        if missing:
            raise TestsFailed(
                f"test task {missing[0]} of {len(given)} left no coverage report, so what is covered cannot be told",
                remedy="Let its command write one to {coverage}.",
            )
        wanted = self.shards or max(1, len(given))
        if len(given) != wanted:
            raise TestsFailed(
                f"{len(given)} coverage reports are there, and there must be {wanted}",
                remedy='Pass tests.output["coverage_report"] of all shards.',
            )
        remedy = "Pass the coverage_report that RunTestsOperator returned."
        return [matching("reports", one, _DIGEST, "the digest of a report", remedy) for one in given]

    @staticmethod
    def _content(digest: str) -> bytes:
        from airflow_pipeops.delivery.evidence import kept

        content = kept(digest, "coverage.xml")
        if content is None:
            raise SystemFailure(
                f"the coverage report {digest[:12]} is not where evidence is kept, or was changed there",
                remedy="All workers need the same [pipeops] evidence_uri.",
            )
        return content
