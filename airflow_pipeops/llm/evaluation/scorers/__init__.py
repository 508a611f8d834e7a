"""Scorers: what an answer is worth. One that cannot tell says so: a value is missing then, neither a loss nor a win."""
