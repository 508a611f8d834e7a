"""What an operator has read and written, in the form of OpenLineage; only its provider asks for it.

Each asset of a deliverable is a dataset, ``pipeops://shop`` ``release/staging``, whose version is the record on it. What was
read are the data that the operator names, its inlets, and the records of the tasks directly before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_pipeops.delivery.records import Record, gate_passed

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset

    from airflow_pipeops.delivery.operators import DeliveryOperator

#: Arguments by which operators name the data that they read.
_READ = ("data", "reference", "current", "batch", "holdout")
#: Stores whose datasets OpenLineage names by the bucket and the path in it.
_STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hdfs": "hdfs", "abfs": "abfs", "abfss": "abfss"}


def lineage(operator: DeliveryOperator) -> OperatorLineage[Any, Any]:
    """Say what an operator has read and written.

    :param operator: after it has run, or has failed.
    :return: inputs, with what a gate said of them, and outputs with the records that are their versions.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset, InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    said = [
        quality.Assertion(assertion=str(record.body.get("subject") or "gate"), success=passed, name=record.id)
        for _, record in operator.emitted
        if record.kind == "validation" and (passed := gate_passed(record.body)) is not None
    ]
    gate: Any = (
        {"dataQualityAssertions": quality.DataQualityAssertionsDatasetFacet(assertions=said)} if said else {}
    )
    read = {named(uri): gate for argument in _READ for uri in uris(getattr(operator, argument, None))}
    written: dict[tuple[str, str], dict[str, Any]] = {named(uri): {} for uri in _results(operator.returned)}
    assets = [*operator.inlets, *(asset for task in operator.upstream_list for asset in task.outlets)]
    for uri in (uri for asset in assets for uri in uris(asset)):
        read.setdefault(named(uri), {})
    inputs = [
        InputDataset(namespace, name, inputFacets=facets)
        for (namespace, name), facets in read.items()
        if (namespace, name) not in written
    ]
    outputs: list[Dataset] = [Dataset(namespace, name) for namespace, name in written]
    outputs += [Dataset(*named(asset.uri), facets=_facets(record)) for asset, record in operator.emitted]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def dataset_of(asset: Any, context: Any) -> Dataset:
    """Name the dataset that an asset of a deliverable is, as Airflow's providers do for the assets of their schemes.

    :param asset: the asset.
    :param context: of the lineage; nothing of it is needed.
    :return: the dataset.
    """
    from openlineage.client.event_v2 import Dataset

    return Dataset(*named(asset.uri))


def named(uri: str) -> tuple[str, str]:
    """Name a dataset as OpenLineage does, so that other tools mean the same by it.

    :param uri: of data, or of an asset.
    :return: its namespace, and its name in that.
    """
    parts = urlsplit(uri)
    where = parts.netloc.rpartition("@")[2]  # a file store of Airflow's has a connection's id before it
    if parts.scheme in ("", "file"):
        return "file", parts.path
    if parts.scheme == "pipeops" or parts.scheme in _STORES:
        return f"{_STORES.get(parts.scheme, parts.scheme)}://{where}", parts.path.lstrip("/")
    return f"{parts.scheme}://{where}", parts.path or "/"


def uris(value: Any) -> Iterator[str]:
    """Find the URIs by which data are named: of files, and of assets; names of tables say nothing without their database."""
    if isinstance(value, str):
        if "://" in value or value.startswith("/"):
            yield value
    elif isinstance(value, Mapping):
        yield from uris(value.get("uri") or value.get("profile"))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from uris(item)
    else:
        yield from uris(getattr(value, "uri", None) or ())


def _results(returned: Any) -> Iterator[str]:
    """Find the URIs of what was written, which results name so."""
    if isinstance(returned, Mapping):
        for name, value in returned.items():
            if isinstance(name, str) and (name == "uri" or name.endswith("_uri")):
                yield from uris(value)


def _facets(record: Record) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset, tags_dataset

    told = {"kind": record.kind, "commit": record.commit, "environment": record.environment, "at": record.at}
    pairs = [*told.items(), *(("parent", parent) for parent in record.parents)]
    tags = [
        tags_dataset.TagsDatasetFacetFields(key, value, "airflow-pipeops") for key, value in pairs if value
    ]
    return {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(record.id),
        "tags": tags_dataset.TagsDatasetFacet(tags),
    }
