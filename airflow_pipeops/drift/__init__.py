"""Drift of data against a reference, and the policy that decides whether to retrain.

``engine.py`` compares two ``sources.py``, or saves one as a ``profile.py``, as ``settings.py`` say: ``plan.py`` pairs the
columns, ``engines/`` boils them down to aggregates, ``statistics/`` says how far those are apart, ``judging/`` whether
that is drift (``results.py``). ``performance/`` measures predictions, and ``governor/`` decides when a retrain is worth it.
``operators/`` brings all of it to Airflow.
"""
