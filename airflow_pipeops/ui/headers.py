"""What every answer says to the browser about itself: Airflow says nothing of the kind for the applications of plugins."""

from __future__ import annotations

#: Of the page: its own scripts and styles, its own server, and nobody but Airflow around it.
PAGE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

#: Of data: never kept by anybody on the way, and nothing that a browser would run.
DATA = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Vary": "Cookie, Authorization",
}
