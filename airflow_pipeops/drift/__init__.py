"""Drift of data against a reference.

``engine.py`` compares two ``sources.py``, or saves one as a ``profile.py``, as ``settings.py`` say: ``plan.py`` pairs the
columns (``schema.py``), ``engines/`` boils them down to aggregates, ``statistics/`` says how far those are apart,
``judging/`` whether that is drift (``results.py``), and ``run.py`` puts them together to a ``comparison.py``.
``operators/`` brings all of it to Airflow.
"""
