"""Bottle: python examples/bottle_app.py, then http://localhost:8000."""

import os

from bottle import Bottle, redirect, request, run, template

from wsgi_sessions import SessionMiddleware, get_session

PAGE = """
<!doctype html><title>Notes</title>
<ol>
% for note in notes:
    <li>{{ note }}</li>
% end
</ol>
<form method="post"><input name="note" required> <button>Note</button></form>
"""

bottle = Bottle(catchall=False)  # so that errors, as of the store, reach the middleware


@bottle.get("/")
def show():
    return template(PAGE, notes=get_session(request.environ).get("notes", []))


@bottle.post("/")
def add():
    session = get_session(request.environ)
    # A change inside a value is noticed by itself.
    session.setdefault("notes", []).append(request.forms.getunicode("note"))
    redirect("/")  # the note is saved before the browser comes back


app = SessionMiddleware(bottle, secret_key=os.urandom(32))

if __name__ == "__main__":
    run(app, port=8000)
