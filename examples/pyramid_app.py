"""Pyramid, with an ISessionFactory: python examples/pyramid_app.py, then http://localhost:8000."""

import os
from collections import UserDict
from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.csrf import SessionCSRFStoragePolicy, get_csrf_token
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.interfaces import ISession
from pyramid.response import Response
from zope.interface import implementer

from wsgi_sessions import SessionMiddleware, get_session


@implementer(ISession)
class PyramidSession(UserDict):
    """``request.session``: our session, with what Pyramid expects of one."""

    def __init__(self, request):
        self.data = get_session(request.environ)
        self.created = int(self.data.created_at.timestamp())
        self.new = self.data.is_new

    def invalidate(self):
        self.data.destroy()

    def changed(self): ...  # changes inside a value are noticed without it

    def flash(self, msg, queue="", allow_duplicate=True):
        messages = self.setdefault(f"_flash.{queue}", [])
        if allow_duplicate or msg not in messages:
            messages.append(msg)

    def pop_flash(self, queue=""):
        return self.data.take(f"_flash.{queue}", [])

    def peek_flash(self, queue=""):
        return self.get(f"_flash.{queue}", [])


def index(request):
    if request.method == "POST":
        request.session.flash("Hello.")
        return HTTPSeeOther("/")
    hidden = f'<input type="hidden" name="csrf_token" value="{get_csrf_token(request)}">'
    form = f'<form method="post">{hidden}<button>Flash</button></form>'
    return Response(f"<p>{' '.join(request.session.pop_flash())}</p>{form}")


with Configurator(session_factory=PyramidSession) as config:
    config.set_csrf_storage_policy(SessionCSRFStoragePolicy())
    config.set_default_csrf_options()
    config.add_route("index", "/")
    config.add_view(index, route_name="index")
    app = SessionMiddleware(config.make_wsgi_app(), secret_key=os.urandom(32))

if __name__ == "__main__":
    make_server("localhost", 8000, app).serve_forever()
