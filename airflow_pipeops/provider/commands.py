"""``airflow pipeops``: the commands of this provider. Only their shape: what they do is imported when they run."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
)
from rich.markup import escape


def _arg(flags: tuple[str, ...], *, help: str, **kwargs: Any) -> Arg:
    # Airflow prints help as rich's markup, which leaves out what stands in brackets.
    return Arg(flags, help=escape(help), **kwargs)  # type: ignore[no-untyped-call]


_POLICY = _arg(("policy",), help="JSON or YAML file of the policy, or package.module:NAME")
_POLICY_FILE = _arg(("policy",), help="JSON or YAML file of the policies")
_HISTORY = _arg(
    ("--history",),
    help="JSON lines: observations, or records of decisions; - reads standard input",
)
_DELIVERABLE = _arg(("--deliverable",), help="name of a deliverable whose decisions Airflow's database holds")
_JSON = _arg(("--json",), help="print one JSON object instead of the table", action="store_true")

_REF = _arg(
    ("ref",),
    metavar="REF",
    help="a record id, a commit, an image's digest, MODEL/VERSION, or DELIVERABLE@ENVIRONMENT[@TIME]",
)
_WHY_REF = _arg(
    ("ref",),
    metavar="REF",
    help="a record of what went wrong, DELIVERABLE[@ENVIRONMENT[@TIME]], DAG/RUN, or the id of a run",
)
_AS_IT_IS = _arg(
    ("--as-it-is",),
    help="answer from what the ledger holds, without taking up what is new",
    action="store_true",
)
_DELIVERABLES = _arg(("deliverable",), nargs="*", help="names of deliverables; by default all")
_ENVIRONMENT = _arg(("--environment",), help="in this environment alone")
_AT = _arg(("--at",), help="at this time in place of now, such as 2026-03-01T12:00Z", metavar="TIME")
_CHECK = _arg(("--check",), help="end with 1 if anything needs somebody", action="store_true")
_DOWN = _arg(("--down",), help="what was made of it, in place of what it was made from", action="store_true")
_STEPS = _arg(("--limit",), help="records at most (default: 1000)", type=int, default=1000)
_HTML = _arg(("--html",), help="print a page that needs nothing else", action="store_true")
_PLACE = _arg(("deliverable",), nargs="?", metavar="DELIVERABLE[@ENVIRONMENT]", help="by default all")
_OF = _arg(("deliverable",), nargs="?", help="by default all")
_KIND = _arg(("--kind",), help="of this kind alone; may be given several times", action="append")
_FROM = _arg(("--from",), help="not before this time", dest="start", metavar="TIME")
_TO = _arg(("--to",), help="before this time", dest="end", metavar="TIME")
_ITEMS = _arg(("--limit",), help="records at most (default: 50)", type=int, default=50)
_AFTER = _arg(("--after",), help="what the part before has said")
_ALL = _arg(("--all",), help="what is not believed, too", action="store_true")
_FIGURES_OF = _arg(("place",), metavar="DELIVERABLE@ENVIRONMENT", help="whose figures")
_CONN_IDS = _arg(("conn_id",), nargs="*", help="look at these connections alone")
_URL = _arg(("--url",), help="address of the API server; by default [api] base_url")
_REPOSITORY = _arg(
    ("--repository",),
    dest="git_conn_id",
    metavar="GIT_CONN_ID",
    help="connection of a repository whose commits carry checkpoints; may be given several times",
    action="append",
)
_KEY = _arg(
    ("--key",), help="public key that signs checkpoints; by default that of [pipeops] ledger_key_conn_id"
)
_SINCE = _arg(("--from",), help="from this time on", dest="start", metavar="TIME", required=True)
_UNTIL = _arg(("--to",), help="before this time", dest="end", metavar="TIME", required=True)
_EXPORT = _arg(("path",), metavar="FILE", help="zip file to write")
_TOLERANCE = _arg(
    ("--tolerance",),
    help="distance of two scores up to which the models are close (default: 0.001)",
    type=float,
    default=1e-3,
)
_CHECKOUT = _arg(
    ("--checkout",),
    help="run the commit of the code that is recorded, from this working copy or repository, and not what is installed",
    metavar="REPOSITORY",
)
_RESET = _arg(
    ("--reset",),
    help="NAME@ENVIRONMENT, rule:NAME, 'batch URI' or 'promotion NAME@ENVIRONMENT'; may be given several times",
    action="append",
)
_HISTORY_OF = _arg(
    ("--storage-conn-id",), help="connection of the remediator's history", default="pipeops_remediation"
)
_PARTS = _arg(("--parts",), help="divide the time into so many parts", type=int, default=1)
_SCENARIO = _arg(("--scenario",), help="this scenario alone; may be given several times", action="append")
_RUNS = _arg(("--runs",), help="runs of each scenario (default: 1)", type=int, default=1)


def commands() -> list[GroupCommand]:
    """Return the commands, as Airflow's command line asks for them."""
    replay = _command(
        "replay",
        "airflow_pipeops.governor.command.replay_command",
        "Try a retrain policy on what happened, before it is switched on",
        "Decides about each recorded batch by a policy, and prints the decisions with their reasons. The"
        " metrics are those of the models that served then: see docs/governor.md.",
        (_POLICY, _HISTORY, _DELIVERABLE, _JSON),
    )
    simulate = _command(
        "simulate",
        "airflow_pipeops.operations.simulation.command.simulate_command",
        "Try policies in a simulated world, with late labels, failing releases and shocks",
        "Runs the decisions that are shipped in every scenario, beside a loop that retrains at each alarm. Ends with 1"
        " if something goes round in a circle, or acts without labels: see docs/stability.md.",
        (_POLICY_FILE, _SCENARIO, _RUNS, _JSON),
    )
    reading = (
        _reading(
            "status",
            "Say what is live everywhere, and what needs somebody",
            (_DELIVERABLES, _ENVIRONMENT, _AT, _CHECK),
        ),
        _reading(
            "trace", "Walk from a record to what it was made from, or was made of it", (_REF, _DOWN, _STEPS)
        ),
        _reading(
            "passport", "Say what is live, since when, made from what, approved by whom", (_REF, _HTML, _JSON)
        ),
        _reading(
            "history",
            "Say what happened, the newest first",
            (_PLACE, _ENVIRONMENT, _KIND, _FROM, _TO, _ITEMS, _AFTER, _ALL),
        ),
        _reading(
            "changes",
            "Say what is live otherwise than at an earlier time, and what happened meanwhile",
            (_PLACE, _SINCE, _TO, _ITEMS),
            "comparing",
        ),
        _reading(
            "gaps", "Say which records name one that nobody holds", (_OF, _SINCE, _TO, _ITEMS), "comparing"
        ),
        _reading("figures", "Say DORA's metrics, and those of the model", (_FIGURES_OF, _FROM, _TO, _PARTS)),
    )
    why = _command(
        "why",
        "airflow_pipeops.operations.changes.command.why_command",
        "Say what changed before something went wrong, and which of it is to be suspected",
        "Ranks what changed, with the reasons. Ends with 0 if one change is the likely cause, with 1 if nobody can tell or"
        " it is none of these, 2 if it could not answer, 3 if there is nothing by that name: see docs/what-changed.md.",
        (_WHY_REF, _JSON, ARG_OUTPUT, _AS_IT_IS),
    )
    reproduce = _command(
        "reproduce",
        "airflow_pipeops.models.reproduction.command.reproduce_command",
        "Make a model again from its record, and say whether it is the same",
        "Trains it with the code that is installed here. Ends with 0 if it is identical, equivalent or close, with 1"
        " if it is different, and with 2 if nobody can tell: see docs/training.md.",
        (_REF, _TOLERANCE, _CHECKOUT, _JSON, ARG_OUTPUT, _AS_IT_IS),
    )
    doctor = _command(
        "doctor",
        "airflow_pipeops.provider.doctor.command.doctor_command",
        "Check connections, permissions, versions, triggerer, ledger and routes, and say what to do",
        "Ends with 0 if all is well, and with 1 if something is not: see docs/cli.md.",
        (_CONN_IDS, _URL, ARG_OUTPUT),
    )
    verify = _command(
        "verify",
        "airflow_pipeops.git.verification.verify_command",
        "Hold the ledger against itself, its index, Airflow's database, and the checkpoints that left it",
        "Ends with 0 if the ledger is what it was, and with 1 if it is not: see docs/ledger.md.",
        (_REPOSITORY, _KEY, ARG_OUTPUT),
    )
    ledger = GroupCommand(
        name="ledger",
        help="Keep the ledger",
        subcommands=(
            _command(
                "ledger ingest",
                "airflow_pipeops.delivery.ledger.command.ingest_command",
                "Take up the records that Airflow's database has and the ledger has not",
            ),
        ),
    )
    remediation = _command(
        "remediation",
        "airflow_pipeops.operations.remediation.command.remediation_command",
        "Say what the remediator has open, what a person has, and what is held; let it go on",
        "What was handed over is left alone until a person resets it: see docs/remediation.md.",
        (_RESET, _HISTORY_OF, _JSON),
    )
    audit = GroupCommand(
        name="audit",
        help="Give the ledger to an auditor",
        subcommands=(
            _command(
                "audit export",
                "airflow_pipeops.delivery.ledger.command.export_command",
                "Write a zip file: entries, signed statements, proofs, exceptions, and what verifies them",
                "What Airflow stored in a span of time: see docs/ledger.md.",
                (_EXPORT, _SINCE, _UNTIL),
            ),
        ),
    )
    return [
        GroupCommand(
            name="pipeops",
            help="Tools of airflow-pipeops",
            subcommands=(
                *reading,
                why,
                reproduce,
                verify,
                audit,
                doctor,
                ledger,
                replay,
                remediation,
                simulate,
            ),
        )
    ]


def _command(
    called: str, work: str, help: str, description: str | None = None, args: tuple[Arg, ...] = ()
) -> ActionCommand:
    """Make a command; whatever it does, it ends as all of them do, and its answer is all that it prints.

    :param called: its name, with that of its group before it.
    :param work: import path of the function that returns its exit code.
    """

    def run(given: Any) -> None:
        from airflow_pipeops.delivery.commands.answers import answer

        answer(called, lazy_load_command(work), given)

    return ActionCommand(
        name=called.rpartition(" ")[2],
        help=help,
        description=description,
        func=run,
        args=(*args, ARG_VERBOSE),
    )


def _reading(name: str, help: str, args: tuple[Arg, ...], module: str = "reading") -> ActionCommand:
    """Make a command that answers from the ledger."""
    return _command(
        name,
        f"airflow_pipeops.delivery.commands.{module}.{name}_command",
        help,
        f"{help}. Ends with 0, with 1 if what it found is not well, 2 if it could not answer, 3 if there is"
        " nothing by that name: see docs/cli.md.",
        (*args, ARG_OUTPUT, _AS_IT_IS),
    )
