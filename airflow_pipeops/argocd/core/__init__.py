"""The calls through the Kubernetes API, by what they are about."""
