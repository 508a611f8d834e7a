"""Argo CD: a status reader, rules, clients, operators, sensors, watchers."""
