"""The ways to Argo Workflows: its server, from a worker or a triggerer, and the Kubernetes API that holds its objects."""
