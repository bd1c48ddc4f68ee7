"""Falcon, as a JSON API: python examples/falcon_app.py, then http://localhost:8000/cart."""

import os
from wsgiref.simple_server import make_server

import falcon

from wsgi_sessions.falcon import SessionMiddleware


class Cart:
    def on_get(self, req, resp):
        resp.media = req.context.session.get("cart", {})

    def on_post(self, req, resp):
        try:
            item = str(req.get_media()["item"])
        except (KeyError, TypeError):
            raise falcon.HTTPMissingParam("item") from None
        # Two requests at the same time both count: the change is made on fresh data, as one step.
        resp.media = req.context.session.transaction(lambda data: add(data, item))

    def on_delete(self, req, resp):
        req.context.session.destroy()
        resp.status = falcon.HTTP_NO_CONTENT


def add(data, item):
    cart = data.setdefault("cart", {})
    cart[item] = cart.get(item, 0) + 1
    return cart


sessions = SessionMiddleware(secret_key=os.urandom(32))
app = falcon.App(middleware=[sessions])
app.add_route("/cart", Cart())

if __name__ == "__main__":
    make_server("localhost", 8000, app).serve_forever()
