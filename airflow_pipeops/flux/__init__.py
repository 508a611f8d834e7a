"""Flux: a status reader, rules, a client, operators, a sensor, watchers."""
