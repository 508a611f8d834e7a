"""Two ways to reach Argo CD: its REST API, and the Kubernetes API of its cluster."""
