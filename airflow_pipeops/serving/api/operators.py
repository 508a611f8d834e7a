"""A model released to KServe, and a served model against its artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.connections import read
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.base.http import trusting
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.deploy.apply.operators import SetOperator
from airflow_pipeops.models.operators.arguments import UI_COLOR, data_uris
from airflow_pipeops.serving.api.kserve import inference_service, known

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.deploy.apply.wanted import Wanted
    from airflow_pipeops.kubernetes.client import KubernetesClient


class KServeModelOperator(SetOperator):
    """Apply the InferenceService of a model, wait until it is ready, and record the release.

    It is applied as a set of one object, as :class:`ApplyManifestsOperator` does, and returns the same. Which model answers
    is proven by :class:`VerifyModelOperator`.

    :param name: of the InferenceService, and of the ConfigMap that is its set's parent. Templated.
    :param image: with this package and its extra ``serving``, by digest. Templated.
    :param model: its name, as requests have it. Templated.
    :param version: of it. Templated.
    :param artifact_uri: of that version. Templated.
    :param sha256: of that version. Templated.
    :param service: further arguments of the manifest: ``variables``, ``secrets``, ``service_account``, ``resources``,
        ``replicas`` (the fewest and the most), ``mode`` (``Standard`` or ``Knative``) and ``drain_seconds``. Templated.
    """

    template_fields: Sequence[str] = (
        "image", "model", "version", "artifact_uri", "sha256", "service", *SetOperator.template_fields,
    )  # fmt: skip

    def __init__(
        self,
        *,
        image: str,
        model: str,
        version: Any,
        artifact_uri: str,
        sha256: str,
        service: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image, self.model, self.version = image, model, version
        self.artifact_uri, self.sha256 = artifact_uri, sha256
        self.service = service

    def execute(self, context: Context) -> dict[str, Any]:
        """Apply."""
        with no_retry():
            return self.deployed(context)

    async def meant(self, client: KubernetesClient, context: Context) -> Wanted:
        """Return the one manifest."""
        manifest = inference_service(
            self.name,
            image=self.image,
            model=self.model,
            version=str(self.version),
            uri=self.artifact_uri,
            sha256=self.sha256,
            **known("service", self.service),
        )
        return self.wanted(context, [manifest])


class VerifyModelOperator(DeliveryOperator):
    """Send real requests to a served model; it must be the stated version and answer as its artifact does.

    Returns ``{url, model, version, sha256, rows, max_difference, seconds, verified_at}``.

    :param http_conn_id: connection of type ``http`` to the endpoint; its password is sent as a bearer token; extra
        ``verify_tls`` (true) and ``ca_file``.
    :param model: name under which it is served.
    :param version: that must be served; templated.
    :param artifact_uri: of that version; templated.
    :param sha256: of that version; templated.
    :param data: URI of a Parquet or CSV file with rows to send; templated.
    :param rows: how many, spread over the file.
    :param trusted: types that the stored model may hold beyond scikit-learn's own.
    :param by_version: ask for the version by its path: one that is served beside the default.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    template_fields: Sequence[str] = (
        "model",
        "version",
        "artifact_uri",
        "sha256",
        "data",
        *DeliveryOperator.template_fields,
    )
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        http_conn_id: str,
        model: str,
        version: Any,
        artifact_uri: str,
        sha256: str,
        data: str,
        rows: int = 50,
        trusted: Sequence[str] = (),
        by_version: bool = False,
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.model = model
        self.version = version
        self.artifact_uri = artifact_uri
        self.sha256 = sha256
        self.data = data
        self.rows = rows
        self.trusted = trusted
        self.by_version = by_version
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, and compare."""
        from airflow_pipeops.models import artifact, storage
        from airflow_pipeops.serving.api import verification as verifying

        with no_retry():
            connection = read(self.http_conn_id, "http")
            url = verifying.base_url(connection, self.http_conn_id)
            loaded = artifact.load(self.artifact_uri, self.sha256, trusted=self.trusted)
            frame, _ = storage.read_tables(data_uris(self.data), self.csv)
            step, began = max(1, len(frame) // self.rows), datetime.now(timezone.utc)
            found = verifying.verify(
                url,
                connection.password,
                loaded,
                model=self.model,
                version=str(self.version),
                frame=frame.iloc[::step].head(self.rows),
                verify_tls=trusting(connection.extra_dejson),
                by_version=self.by_version,
            )
        return {
            "url": url,
            "model": self.model,
            "version": str(self.version),
            "sha256": self.sha256,
            "rows": found.rows,
            "max_difference": found.max_difference,
            "seconds": round(found.seconds, 4),
            "verified_at": began.isoformat(timespec="milliseconds"),
        }
