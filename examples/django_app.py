"""Django: python examples/django_app.py, then http://localhost:8000.

Django keeps a session of its own in ``request.session``, which its admin and its auth need. Ours is
in the environ, under another cookie, and the two stay apart.
"""

import os
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

from wsgi_sessions import Cookie, SessionMiddleware, get_session

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.urandom(32).hex(),
    SESSION_COOKIE_NAME="django-session",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)


def index(request):
    ours, djangos = get_session(request.environ), request.session
    ours["visits"] = ours.get("visits", 0) + 1
    djangos["visits"] = djangos.get("visits", 0) + 10
    return JsonResponse({"ours": ours["visits"], "Django's": djangos["visits"]})


def forget(request):
    get_session(request.environ).destroy()
    return JsonResponse({"Django's": request.session.get("visits")})


urlpatterns = [path("", index), path("forget", forget)]
app = SessionMiddleware(
    get_wsgi_application(), secret_key=os.urandom(32), cookie=Cookie("shop-session")
)

if __name__ == "__main__":
    make_server("localhost", 8000, app).serve_forever()
