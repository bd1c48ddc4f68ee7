"""Bottle: python examples/bottle_app.py, then http://localhost:8000."""

import os

from bottle import Bottle, redirect, request, run, template

from wsgi_sessions.bottle import SessionPlugin

PAGE = """
<!doctype html><title>Notes</title>
<ol>
% for note in notes:
    <li>{{ note }}</li>
% end
</ol>
<form method="post"><input name="note" required> <button>Note</button></form>
"""

app = Bottle()
sessions = app.install(SessionPlugin(secret_key=os.urandom(32)))


@app.get("/")
def show():
    return template(PAGE, notes=request.session.get("notes", []))


@app.post("/")
def add():
    # A change inside a value is noticed by itself.
    request.session.setdefault("notes", []).append(request.forms.getunicode("note"))
    redirect("/")  # the note is saved before the browser comes back


if __name__ == "__main__":
    run(app, port=8000)
