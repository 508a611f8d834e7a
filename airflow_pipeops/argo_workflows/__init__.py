"""Argo Workflows: run one, once; wait for its end; take its outputs, its logs, and what failed in it."""
