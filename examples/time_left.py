"""Time left, and an end that is noticed. Start it, then open http://localhost:8000/:

    export SECRET_KEY=$(python -m wsgi_sessions secret)
    python time_left.py

Sign in, and leave the page alone: sessions live for three minutes here. It warns two minutes
before the end, offers to stay signed in, and goes to the sign-in page when the session has ended.
Below it, a stream of events ends by itself when you sign out in another tab.

Under a server that can stream to many at once:
    gunicorn --worker-class gthread --threads 20 time_left:application
    gunicorn --worker-class gevent time_left:application
"""

import json
import os
import time
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from wsgi_sessions import Lifetime, SessionMiddleware, get_session

SCRIPT = Path(__file__).parent / "flask_app" / "static" / "time-left.js"
CHECK_SECONDS = float(os.environ.get("CHECK_SECONDS", "5"))
PAGE = """<!doctype html>
<title>Time left</title>
<h1>Hello, ada</h1>
<form method="post" action="/sign-out"><button>Sign out</button></form>
<pre id="news"></pre>
<dialog id="ending" data-left="/left" data-after="/">
<form method="post" action="/stay">
<p>You will be signed out in <output></output>.</p><button>Stay signed in</button>
</form>
</dialog>
<script src="/time-left.js"></script>
<script>
const news = new EventSource("/events");
news.onmessage = (event) => { document.getElementById("news").textContent = event.data; };
news.addEventListener("signed-out", () => { news.close(); location.assign("/"); });
</script>
"""
SIGN_IN = """<!doctype html>
<title>Sign in</title>
<form method="post" action="/sign-in"><button>Sign in as ada</button></form>
"""


def left(session):
    """What the script asks. It doesn't count as use: `passive`, below, says so."""
    return {"signed_in": session.owner is not None, "seconds": session.time_left.total_seconds()}


def events(session):
    """A stream that stops when the session ends, however it does. Asking costs one round trip."""
    while session.is_alive():
        yield f"data: {time.strftime('%X')}, still signed in\n\n".encode()
        time.sleep(CHECK_SECONDS)
    yield b"event: signed-out\ndata:\n\n"


def app(environ, start_response):
    session = get_session(environ)
    to_the_page = [("Location", "/"), ("Content-Length", "0")]
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/":
            kind, body = "text/html", PAGE if session.owner else SIGN_IN
        case "GET", "/time-left.js":
            kind, body = "text/javascript", SCRIPT.read_text("utf-8")
        case "GET", "/left":
            kind, body = "application/json", json.dumps(left(session))
        case "GET", "/events":
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return events(session)
        # A real app has forms that no other site can send, and asks for a password.
        case "POST", "/sign-in":
            session.login("ada")
            start_response("303 See Other", to_the_page)
            return []
        case "POST", "/sign-out":
            session.destroy()
            start_response("303 See Other", to_the_page)
            return []
        case "POST", "/stay":
            session.touch()
            start_response("204 No Content", [])
            return []
        case _:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"There is no such page.\n"]
    start_response("200 OK", [("Content-Type", f"{kind}; charset=utf-8")])
    return [body.encode()]


application = SessionMiddleware(
    app,
    secret_key=os.environ["SECRET_KEY"],  # python -m wsgi_sessions secret prints a good one
    store=os.environ.get("STORE_URL", "memory://"),
    lifetime=Lifetime(idle=180, absolute=8 * 3600),
    passive=lambda environ: environ["PATH_INFO"] in ("/left", "/events"),
)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def serve(port=8000):
    make_server("localhost", port, application, server_class=Server).serve_forever()


if __name__ == "__main__":
    serve()
