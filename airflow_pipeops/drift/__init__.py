"""Drift of data against a reference, and the policy that decides whether to retrain."""
