"""Knobs that follow what came of them: one at a time, inside bounds, from enough evidence, and back if it was worse."""
