"""Evaluations of prompts: a pinned dataset, answered by subjects within limits, scored, and kept as one table."""
