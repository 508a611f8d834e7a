"""One alarm for what hangs together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.operations.anomalies.verdict import AnomalyVerdict, grouped


def late(subject: str, hour: int = 0, outcome="anomalous") -> AnomalyVerdict:
    return AnomalyVerdict(
        outcome, f"{subject} was slow", subject, "duration", f"2026-01-01T{hour:02}:00", 9.0
    )


PARENTS = {
    "report": frozenset({"join"}),
    "join": frozenset({"load", "dates"}),
    "mail": frozenset({"report"}),
    "other": frozenset({"elsewhere"}),
}


def test_the_root_stands_first_and_its_children_with_it() -> None:
    found = grouped([late("mail", 1), late("report", 2), late("load", 3), late("other", 0)], PARENTS)
    assert [(group.root, group.subjects) for group in found] == [
        ("other", ("other",)),
        ("load", ("load", "report", "mail")),
    ]
    assert found[1].says == "load was slow; 2 downstream are unusual, too"


def test_what_is_not_anomalous_is_no_alarm_and_does_not_hide_its_children() -> None:
    found = grouped([late("load", 0, "ordinary"), late("join", 1), late("mail", 1)], PARENTS)
    assert [group.subjects for group in found] == [("join", "mail")]


def test_two_roots_of_one_child_are_two_alarms_and_the_child_none() -> None:
    found = grouped([late("load", 2), late("dates", 1), late("join", 3)], PARENTS)
    assert [group.subjects for group in found] == [("dates", "join"), ("load",)]


def test_those_that_wait_for_each_other_are_one_alarm() -> None:
    circle = {"a": frozenset({"b"}), "b": frozenset({"a"})}
    assert [group.subjects for group in grouped([late("b", 0), late("a", 1)], circle)] == [("b", "a")]


@given(
    st.dictionaries(st.integers(0, 7), st.frozensets(st.integers(0, 7), max_size=3)),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 23)), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_each_anomaly_is_in_one_alarm(graph, found) -> None:
    parents = {str(child): frozenset(map(str, over)) for child, over in graph.items()}
    verdicts = [late(str(subject), hour) for subject, hour in found]
    groups = grouped(verdicts, parents)
    assert sorted((one for group in groups for one in group.verdicts), key=repr) == sorted(verdicts, key=repr)
    subjects = [subject for group in groups for subject in group.subjects]
    assert len(subjects) == len(set(subjects))
