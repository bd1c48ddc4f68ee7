"""``wsgi-sessions doctor --app``: what it says of an app's settings."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from wsgi_sessions.cli import main

APP = """
import datetime
from wsgi_sessions import SessionMiddleware
from wsgi_sessions.carry_over import Beaker, Express, FlaskCookie


class Flask:
    extensions = {}


flask, key = Flask(), "a secret of at least thirty-two bytes, for tests"
sources = [
    Beaker("redis://:hush@localhost"),
    FlaskCookie("hush", until=datetime.datetime(2020, 1, 31, tzinfo=datetime.UTC)),
    Express("redis://localhost", "hush", until=datetime.datetime(2100, 1, 31, tzinfo=datetime.UTC)),
]
application = SessionMiddleware(print, secret_key=key, carry_over=sources)
flask.extensions["wsgi_sessions"] = application
"""


@pytest.mark.parametrize("name", ["application", "flask", "flask.extensions.__class__"])
def test_doctor_of_an_app_says_until_when_sessions_are_carried_over(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_to_examine", raising=False)
    (tmp_path / "shop_to_examine.py").write_text(APP)
    out, path = io.StringIO(), list(sys.path)

    status = main(["doctor", "--app", f"shop_to_examine:{name}"], out)

    assert sys.path == path
    if name.endswith("__class__"):
        assert (status, "--app names an object of type type" in capsys.readouterr().err) == (
            2,
            True,
        )
        return
    assert status == 0
    assert "warning beaker has no until; set it to" in out.getvalue()
    assert "warning flask-cookie is past its until (2020-01-31" in out.getvalue()
    assert (
        "ok      sessions of express are carried over until 2100-01-31 00:00 UTC" in out.getvalue()
    )
    assert "hush" not in out.getvalue()


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("no_such_module:app", "can't be found (No module named"),
        ("json:nothing", "can't be found (module 'json' has no"),
        (":app", "can't be found"),
    ],
)
def test_an_app_that_is_not_there(app: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--app", app]) == 2
    assert says in capsys.readouterr().err
