"""How late are flights from New York? A small HTTP service.

GET /healthz          {"status": "ok"}
GET /version          {"version": "3"}
GET /delays/<origin>  {"origin": "JFK", "mean_delay_minutes": 12.1}
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from delays import mean_delay
from pool import Pool

VERSION = "3"
POOL = Pool(size=40)


def health():
    if not POOL.free():
        return 503, {"status": "no free connection"}
    return 200, {"status": "ok"}


def delays(origin):
    connection = POOL.acquire()
    if connection is None:
        return 503, {"error": "no free connection"}
    delay = mean_delay(origin)
    if delay is None:
        return 404, {"error": f"no flights from {origin}"}
    return 200, {"origin": origin, "mean_delay_minutes": delay}


def answer(path):
    """Return status and body for a path."""
    if path == "/healthz":
        return health()
    if path == "/version":
        return 200, {"version": VERSION}
    if path.startswith("/delays/"):
        return delays(path.removeprefix("/delays/").upper())
    return 404, {"error": "not found"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = answer(self.path)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        print(format % args, file=sys.stderr)


def main():
    host, port = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8080"))
    print(f"delay-api {VERSION} on {host}:{port}", file=sys.stderr)
    ThreadingHTTPServer((host, port), Handler).serve_forever()


if __name__ == "__main__":
    main()
