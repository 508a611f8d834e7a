"""The thing that a team ships, and the Airflow assets that connect its pipelines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetWatcher

from airflow_pipeops.base.arguments import matching, one_of
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, RecordKind
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger

#: An asset of another name than its kind: `batch` is what the signal of a new batch is called, and names are unique.
_CALLED = {"batch": "arrival"}

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?")


class Deliverable:
    """A service, a model, a prompt: what a team ships.

    ::

        model = Deliverable("flight-delay", environments=("staging", "production"))

        with DAG("retrain", schedule=model.retrain): ...
        with DAG("guard", schedule=model.released("production")): ...

    :param name: as in Kubernetes: lower-case letters, digits and dashes, at most 53.
    :param environments: in promotion order.
    :raises InvalidInput: for a name or environment that is not of that form.
    """

    def __init__(self, name: str, *, environments: tuple[str, ...] = ("staging", "production")) -> None:
        for field, value in (("name", name), *(("environments", item) for item in environments)):
            remedy = (
                "Use lower-case letters, digits and dashes, starting with a letter, at most 53 characters."
            )
            matching(field, value, _NAME, "a valid name", remedy)
        self.name = name
        self.environments = tuple(environments)

    def __repr__(self) -> str:
        return f"Deliverable({self.name!r}, environments={self.environments!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Deliverable) and (self.name, self.environments) == (
            other.name,
            other.environments,
        )

    def __hash__(self) -> int:
        return hash((self.name, self.environments))

    def asset(self, kind: RecordKind, environment: str | None = None) -> Asset:
        """Name the asset whose events carry the records of one kind.

        :param kind: a record kind.
        :param environment: needed for the kinds that happen somewhere, such as ``change`` and ``release``; refused for all
            others.
        :return: the asset.
        """
        one_of("kind", kind, KINDS, called="record kind")
        if kind not in PER_ENVIRONMENT:
            return self._asset(kind, called=_CALLED.get(kind, kind))
        if environment not in self.environments:
            raise InvalidInput(
                f"deliverable {self.name!r} has no environment {environment!r}",
                field="environment",
                value=environment,
                remedy=f"Use one of {', '.join(self.environments)}.",
            )
        return self._asset(kind, environment)

    @property
    def commit(self) -> Asset:
        """A commit was taken up by a pipeline. Partitioned by commit SHA."""
        return self.asset("commit")

    @property
    def image(self) -> Asset:
        """An image or artifact was built. Partitioned by commit SHA."""
        return self.asset("image")

    @property
    def data(self) -> Asset:
        """A batch of data was accepted."""
        return self.asset("dataset")

    @property
    def approval(self) -> Asset:
        """A person was asked, and has answered."""
        return self.asset("approval")

    @property
    def model(self) -> Asset:
        """A model version was registered. Partitioned by commit SHA where it is known."""
        return self.asset("model")

    @property
    def scores(self) -> Asset:
        """A partition was scored by a model version."""
        return self.asset("scores")

    @property
    def drift(self) -> Asset:
        """A batch was compared with its reference."""
        return self.asset("drift")

    @property
    def differences(self) -> Asset:
        """Live state was compared with the desired state in Git, and differs, or nobody can tell; or no longer differs."""
        return self.asset("differences")

    @property
    def decision(self) -> Asset:
        """A policy decided, whatever it decided."""
        return self.asset("decision")

    @property
    def retrain(self) -> Asset:
        """A policy decided to retrain."""
        return self._asset("retrain")

    @property
    def failure(self) -> Asset:
        """A task that would have made a record of it failed for good."""
        return self.asset("failure")

    def changed(self, environment: str) -> Asset:
        """The desired state of an environment was changed in Git.

        :param environment: one of the deliverable's own.
        :return: the asset of kind *change*.
        """
        return self.asset("change", environment)

    def released(self, environment: str) -> Asset:
        """A change is live and healthy in an environment.

        :param environment: one of the deliverable's own.
        :return: the asset of kind *release*.
        """
        return self.asset("release", environment)

    def rolled_back(self, environment: str) -> Asset:
        """What was live before was made live again in an environment.

        :param environment: one of the deliverable's own.
        :return: the asset of kind *rollback*.
        """
        return self.asset("rollback", environment)

    def incident(self, environment: str) -> Asset:
        """A release went bad in an environment.

        :param environment: one of the deliverable's own.
        :return: the asset of kind *incident*.
        """
        return self.asset("incident", environment)

    def remediated(self, environment: str) -> Asset:
        """A policy answered a finding in an environment, or what was done came to its end.

        :param environment: one of the deliverable's own.
        :return: the asset of kind *remediation*.
        """
        return self.asset("remediation", environment)

    def signal(self, name: str, trigger: BaseEventTrigger) -> Asset:
        """Make an asset fed by a watcher: something outside happened (a push, a new file, a drifted application).

        A signal starts DAGs; it is not a record. The DAG that it starts turns it into records.

        :param name: what happened, for example ``push``.
        :param trigger: the event trigger that notices it.
        :return: the asset.
        :raises InvalidInput: for the name of an asset that carries records.
        """
        called = f"{self.name}.{name}"
        of_records = {"retrain", *(_CALLED.get(kind, kind) for kind in KINDS if kind not in PER_ENVIRONMENT)}
        of_records |= {f"{kind}.{place}" for kind in PER_ENVIRONMENT for place in self.environments}
        if name in of_records:
            raise InvalidInput(
                f"a signal cannot be called {name!r}: {called} carries records, and Airflow knows an asset by its name",
                field="name",
                value=name,
                remedy="Name what happened, for example push.",
            )
        return Asset(
            name=called,
            uri=f"pipeops://{self.name}/signal/{name}",
            group="pipeops",
            watchers=[AssetWatcher(name=f"{self.name}-{name}", trigger=trigger)],
        )

    def _asset(self, *path: str, called: str = "") -> Asset:
        extra: dict[str, Any] = {}
        return Asset(
            name=".".join((self.name, *((called,) if called else path))),
            uri=f"pipeops://{'/'.join((self.name, *path))}",
            group="pipeops",
            extra=extra,
        )
