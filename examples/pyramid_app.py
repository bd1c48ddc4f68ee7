"""Pyramid: python examples/pyramid_app.py, then http://localhost:8000."""

import secrets
from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.csrf import SessionCSRFStoragePolicy, get_csrf_token
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.response import Response


def index(request):
    if request.method == "POST":
        request.session.flash("Hello.")
        return HTTPSeeOther("/")
    hidden = f'<input type="hidden" name="csrf_token" value="{get_csrf_token(request)}">'
    form = f'<form method="post">{hidden}<button>Flash</button></form>'
    return Response(f"<p>{' '.join(request.session.pop_flash())}</p>{form}")


settings = {"wsgi_sessions.secret_key": secrets.token_urlsafe(32)}  # in an .ini file as well
with Configurator(settings=settings) as config:
    config.include("wsgi_sessions.pyramid")
    config.set_csrf_storage_policy(SessionCSRFStoragePolicy())
    config.set_default_csrf_options()
    config.add_route("index", "/")
    config.add_view(index, route_name="index")
    app = config.make_wsgi_app()

if __name__ == "__main__":
    make_server("localhost", 8000, app).serve_forever()
