"""The frameworks' own tests of sessions, from their sdists, with ours in place of theirs.

What differs is by design, has its reason here, and stands on the framework's page. The sdists are
downloaded into build/ once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

import wsgi_sessions
from programs import missing

ROOT = Path(__file__).parents[2]
SDISTS = ROOT / "build" / "sdists"
SOURCE = Path(wsgi_sessions.__file__).parents[1]

pytestmark = pytest.mark.slow


def sdist(name: str) -> Path:
    """The directory of this distribution's sources, of the version that is installed."""
    found = SDISTS / f"{name}-{version(name)}"
    if not found.is_dir():
        SDISTS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", name, "--dest", str(SDISTS), f"{name}=={version(name)}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            missing("sdists", f"the sdist of {name} can't be downloaded: {done.stderr[-500:]}")
        with tarfile.open(f"{found}.tar.gz") as archive:
            archive.extractall(SDISTS, filter="data")
    return found


def run(command: list[str], cwd: Path, path: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (SOURCE, path, cwd))),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def failed(output: str) -> set[str]:
    """Class and name of each test that failed."""
    found = re.findall(r"^(?:FAIL|ERROR): (\w+) \(([\w.]+)\)", output, re.MULTILINE)
    return {f"{place.split('.')[-2]}.{name}" for name, place in found}


DJANGO_SETTINGS = """
DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
SECRET_KEY = "django_tests_secret_key"
WSGI_SESSIONS = {"secret_key": "a key for Django's own tests, of 32 bytes or more"}
SESSION_ENGINE = "wsgi_sessions.django"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False

import django.contrib.sessions.middleware as djangos
from wsgi_sessions.django import SessionMiddleware

djangos.SessionMiddleware = SessionMiddleware
"""
DJANGO_ENGINE_TESTS = """
from django.test import SimpleTestCase, override_settings
from sessions_tests.tests import SessionTestsMixin
from wsgi_sessions.django import SessionStore


class OurSessionTests(SessionTestsMixin, SimpleTestCase):
    backend = SessionStore


@override_settings(USE_TZ=True)
class OurSessionTestsWithTimeZone(OurSessionTests):
    pass
"""
DJANGO_DIFFERENCES = {
    "SessionMiddlewareTests.test_secure_session_cookie": (
        "SESSION_COOKIE_SECURE over http: a browser would drop the cookie, so none is set"
    ),
    "SessionMiddlewareTests.test_session_delete_on_end": "the expired cookie is HttpOnly as well",
    "SessionMiddlewareTests.test_session_delete_on_end_with_custom_domain_and_path": (
        "the expired cookie is HttpOnly as well"
    ),
    "SessionMiddlewareTests.test_session_update_error_redirect": (
        "a write after the session's end is dropped; the request goes on"
    ),
    "SessionMiddlewareTests.test_save_every_request_with_non_empty_session_renews_session_cookie": (
        "an untouched session isn't loaded, so there is nothing to renew"
    ),
    "SessionMiddlewareTests.test_empty_session_saved": "one response a request",
    "LoginTest.test_session_key_flushed_on_login_after_password_change": (
        "each login gets a new key, even the same user's"
    ),
    "ClientTest.test_logout_cookie_sessions": "names an engine of Django's",
    "ClientTest.test_sessions_app_is_not_installed": "names an engine of Django's",
    "ClientTest.test_view_with_login_when_sessions_app_is_not_installed": (
        "names an engine of Django's"
    ),
    "SessionEngineTests.test_login": "names an engine of its own",
}
if version("django") >= "6":
    DJANGO_DIFFERENCES["TestLoginRequiredMiddleware.test_protected_view_logged_in_performance"] = (
        "sessions make no queries of the database"
    )


@pytest.mark.long
def test_djangos_own_tests_pass_but_for_what_differs_by_design(tmp_path: Path) -> None:
    tests = sdist("django") / "tests"
    (tmp_path / "our_settings.py").write_text(DJANGO_SETTINGS)
    ours = tests / "our_sessions"
    ours.mkdir(exist_ok=True)
    (ours / "__init__.py").touch()
    (ours / "tests.py").write_text(DJANGO_ENGINE_TESTS)
    names = ["our_sessions", "sessions_tests.tests.SessionMiddlewareTests", "auth_tests"]
    names += ["messages_tests", "test_client", "test_client_regress", "csrf_tests"]

    output = run(
        ["runtests.py", "--settings=our_settings", "--parallel=1", *names], tests, tmp_path
    )

    assert int(re.findall(r"^Ran (\d+) tests", output, re.MULTILINE)[0]) > 1300
    assert failed(output) == DJANGO_DIFFERENCES.keys(), output[-5000:]


PYRAMID_TESTS = """
import sys
import unittest
import warnings

warnings.simplefilter("ignore")
from pyramid import testing
from tests import test_csrf
from tests.test_session import SharedCookieSessionTests
from wsgi_sessions.pyramid import options_from, PyramidSession, _Factory, REGISTRY_KEY
from wsgi_sessions.integration import Integration

STEPS = Integration(PyramidSession, any_path=True, **options_from(
    {"wsgi_sessions.secret_key": "a key for Pyramid's own tests, of 32 bytes"}))


class OurSessionTests(SharedCookieSessionTests, unittest.TestCase):
    def setUp(self):
        testing.setUp()

    def _makeOne(self, request, **options):
        if options:
            raise TypeError("options are settings")
        request.registry[REGISTRY_KEY] = STEPS
        return _Factory(STEPS)(request)

    def _serialize(self, value):
        raise TypeError("the cookie holds no data")


# request.session of Pyramid's dummy request
testing.DummySession = lambda: STEPS.open_token(None)
suite = unittest.TestSuite([
    unittest.defaultTestLoader.loadTestsFromTestCase(OurSessionTests),
    unittest.defaultTestLoader.loadTestsFromModule(test_csrf),
])
unittest.TextTestRunner(verbosity=2).run(suite)
"""
_COOKIE = "the session's data isn't in the cookie"
_OPTION = "options are settings, which are the same for all sessions"
_INSIDE = "internal attributes of Pyramid's cookie sessions"
PYRAMID_DIFFERENCES = {
    f"OurSessionTests.{name}": why
    for why, names in {
        _COOKIE: (
            "test_ctor_with_cookie_still_valid",
            "test_ctor_with_cookie_expired",
            "test_ctor_with_bad_cookie_not_tuple",
            "test_reissue_triggered",
            "test_timeout",
            "test_timeout_never",
            "test_timeout_str",
        ),
        _OPTION: (
            "test_timeout_invalid",
            "test_no_set_cookie_with_exception",
            "test__set_cookie_options",
        ),
        _INSIDE: (
            "test_changed",
            "test__set_cookie_on_exception",
            "test__set_cookie_on_exception_no_request_exception",
            "test__set_cookie_cookieval_too_long",
            "test__set_cookie_real_webob_response",
        ),
    }.items()
    for name in names
}


def test_pyramids_own_tests_pass_but_for_what_differs_by_design(tmp_path: Path) -> None:
    program = tmp_path / "our_tests.py"
    program.write_text(PYRAMID_TESTS)

    output = run([str(program)], sdist("pyramid"), tmp_path)

    assert int(re.findall(r"^Ran (\d+) tests", output, re.MULTILINE)[0]) > 60
    assert failed(output) == PYRAMID_DIFFERENCES.keys(), output[-5000:]


@pytest.mark.parametrize("page", ["django", "pyramid"])
def test_the_page_lists_what_differs(page: str) -> None:
    text = " ".join((ROOT / "docs" / f"{page}.md").read_text("utf-8").lower().split())
    text = text.replace("`", "")
    differences = DJANGO_DIFFERENCES if page == "django" else PYRAMID_DIFFERENCES

    assert [why for why in differences.values() if why.lower() not in text] == []
