"""Flask: python examples/flask_counter.py, then http://localhost:8000."""

import os

from flask import Flask, flash, redirect, render_template_string, request

from wsgi_sessions.flask import FlaskSessions, session  # flask.session, with its type

PAGE = """
<!doctype html><title>Counter</title>
{% for message in get_flashed_messages() %}<p><em>{{ message }}</em></p>{% endfor %}
<p>{{ owner or "Somebody" }}, visit number {{ visits }}.</p>
<form method="post" action="/login"><input name="name" required><button>Sign in</button></form>
<form method="post" action="/logout"><button>Sign out</button></form>
"""

app = Flask(__name__)
# For real: app.config["SECRET_KEY"], a secret that stays the same, and SESSION_STORE.
sessions = FlaskSessions(app, secret_key=os.urandom(32))


@app.get("/")
def index():
    visits = session.increment("visits")
    return render_template_string(PAGE, owner=session.owner, visits=visits)


@app.post("/login")
def login():
    session.login(request.form["name"])  # a new session ID, and the visits stay
    flash("Welcome!")
    return redirect("/")


@app.post("/logout")
def logout():
    session.destroy()
    return redirect("/")


if __name__ == "__main__":
    app.run(port=8000)
