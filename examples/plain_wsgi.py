"""A counter without a framework: python examples/plain_wsgi.py, then http://localhost:8000."""

import os
from wsgiref.simple_server import make_server

from wsgi_sessions import SessionMiddleware


def counter(environ, start_response):
    session = environ["wsgi_sessions.session"]
    session["visits"] = session.get("visits", 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Visit number {session['visits']}\n".encode()]


# For real: a secret that stays the same, from `python -m wsgi_sessions secret`.
app = SessionMiddleware(counter, secret_key=os.urandom(32))

if __name__ == "__main__":
    make_server("localhost", 8000, app).serve_forever()
