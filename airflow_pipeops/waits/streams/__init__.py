"""One stream of news for all waits of a process that concern the same server: connected once, read by all.

``stream.py`` puts it together. ``listening.py`` holds the connection, ``asking.py`` asks by name for what the stream does
not tell, ``board.py`` knows the newest state and whom a change concerns, ``seats.py`` is where the waits sit. Nothing here
knows Airflow or any controller's API: a :class:`~airflow_pipeops.waits.streams.source.Source` does.

What is so by the stream is never the last word, since servers drop events silently: a wait ends only on an answer that
was asked for.
"""
