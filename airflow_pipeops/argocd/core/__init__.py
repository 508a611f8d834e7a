"""The calls through the Kubernetes API, by what they are about. :class:`~airflow_pipeops.argocd.crd.ArgoCDCoreClient` has
them all."""
