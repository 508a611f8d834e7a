"""The Kubernetes API, as far as the GitOps controllers are steered through it: custom objects, events, logs."""
