"""The calls of the REST API, by what they are about. :class:`~airflow_pipeops.argocd.client.ArgoCDClient` has them all."""
