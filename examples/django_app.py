"""Django: python examples/django_app.py, then http://localhost:8000.

``request.session`` has Django's interface and ours; a user who signs in by ``django.contrib.auth``
would be the session's owner.
"""

import secrets
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    INSTALLED_APPS=["wsgi_sessions.django"],  # system checks, and manage.py clearsessions
    MIDDLEWARE=["wsgi_sessions.django.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(32),
    SESSION_ENGINE="wsgi_sessions.django",
    WSGI_SESSIONS={"store": "memory://"},
)


def index(request):
    # Counted on fresh data, as one step: two requests at the same time both count.
    return JsonResponse({"visits": request.session.increment("visits")})


def forget(request):
    request.session.flush()
    return JsonResponse({})


urlpatterns = [path("", index), path("forget", forget)]
app = get_wsgi_application()

if __name__ == "__main__":
    make_server("localhost", 8000, app).serve_forever()
