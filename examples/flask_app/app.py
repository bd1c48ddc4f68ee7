"""The shop's pages. All that they remember about a visitor is in the session."""

import hmac
import os
import secrets
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, abort, current_app, redirect, render_template, request, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from wsgi_sessions import Session, SessionMiddleware, UnsupportedByStore, get_session
from wsgi_sessions.proxies import ProxyProbe
from wsgi_sessions.proxies.probe import survey

from .catalogue import CATALOGUE, MAX_COUNT, price, total
from .settings import COOKIES, TOKEN_HEADER, mode_of, options
from .words import ago, device

shop = Blueprint("shop", __name__)


def make_app(environ: Mapping[str, str] | None = None) -> Flask:
    """The shop as a WSGI app; its settings are environment variables."""
    environ = os.environ if environ is None else environ
    app = Flask(__name__)
    app.register_blueprint(shop)
    app.jinja_env.filters |= {"price": price, "ago": ago, "device": device}
    chosen = options(environ)
    # A demo may show it to everybody. In a real app, mount it while you set up the proxies, then
    # remove it.
    inner = DispatcherMiddleware(app.wsgi_app, {"/proxy/probe": ProxyProbe()})
    sessions = SessionMiddleware(inner, **chosen)
    app.wsgi_app = sessions  # type: ignore[method-assign] # the way that Flask documents
    app.config |= {
        "SESSIONS": sessions,
        "MODE": mode_of(environ),
        "EMBEDDED": chosen["cookie"] == COOKIES["embedded"],
        "HOPS": chosen["trusted_proxies"],
        "SITE_COOKIE": chosen["cookie"],
    }
    return app


def the_session() -> Session:
    """The session of this request."""
    return get_session(request.environ)


def sessions() -> SessionMiddleware:
    """The middleware around this app."""
    middleware: SessionMiddleware = current_app.config["SESSIONS"]
    return middleware


# Every form carries a token that only our pages know, so that no other site can send it.


def csrf_token() -> str:
    session = the_session()
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    token: str = session["csrf"]
    return token


@shop.before_request
def check_csrf() -> None:
    # Another site can't make a browser send a header of our own, so that is proof enough.
    by_header = current_app.config["MODE"] == "header" and TOKEN_HEADER in request.headers
    if request.method == "POST" and not by_header:
        sent = request.form.get("csrf", "").encode()
        kept = the_session().get("csrf", "").encode()
        if not kept or not hmac.compare_digest(sent, kept):
            abort(403, "This form is out of date. Go back, reload the page and send it again.")


@shop.after_app_request
def add_headers(response: Response) -> Response:
    if request.endpoint != "static":
        # Every page shows something of the visitor's: no cache may keep it, nor the back button.
        response.headers["Cache-Control"] = "no-store"
    ancestors = "*" if current_app.config["EMBEDDED"] else "'none'"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@shop.app_context_processor
def for_every_page() -> dict[str, Any]:
    session = the_session()
    return {
        "session": session,
        "csrf": csrf_token(),
        "message": session.pop("message", None),
        "in_cart": sum(session.get("cart", {}).values()),
        "mode": current_app.config["MODE"],
        "warns": session.owner is not None and request.endpoint != "shop.sign_in_form",
    }


def say(message: str) -> None:
    """Show this on the next page."""
    the_session()["message"] = message


def to(page: str, place: str | None = None) -> Response:
    return redirect(url_for(f"shop.{page}", _anchor=place), 303)


@shop.get("/")
def index() -> str:
    session = the_session()
    if "message" not in session:  # else it is the answer to a form, and no visit of its own
        session["visits"] = session.get("visits", 0) + 1
    return render_template("index.html", products=CATALOGUE.values())


# The cart: nested changes are noticed by themselves.


@shop.get("/cart")
def cart() -> str:
    items: dict[str, int] = the_session().get("cart", {})
    lines = [(CATALOGUE[slug], count) for slug, count in items.items()]
    return render_template("cart.html", lines=lines, total=total(items))


@shop.post("/cart/<slug>")
def put_in_cart(slug: str) -> Response:
    product = CATALOGUE.get(slug) or abort(404)
    items: dict[str, int] = the_session().setdefault("cart", {})
    if "count" not in request.form:
        items[slug] = min(items.get(slug, 0) + 1, MAX_COUNT)
        say(f"{product.name}: added to your cart.")
        return to("index", slug)
    count = request.form.get("count", type=int)
    if count is None or not 0 <= count <= MAX_COUNT:
        abort(400, f"The count must be a number from 0 to {MAX_COUNT}.")
    items[slug] = count
    if count == 0:
        del items[slug]
    return to("cart")


@shop.post("/order")
def order() -> Response:
    if the_session().pop("cart", None):
        say("Thank you! The kettle is on. (Nothing was ordered: this is a demo.)")
    return to("index")


# Signing in and out


@shop.get("/sign-in")
def sign_in_form() -> str:
    return render_template("sign_in.html")


@shop.post("/sign-in")
def sign_in() -> Response:
    name = request.form.get("name", "").strip()
    if not 1 <= len(name) <= 40:
        abort(400, "The name must have 1 to 40 characters.")
    # A real shop checks a password here. Then: a new ID, and only what may stay is kept.
    session = the_session()
    before = session.id
    session.login(name.casefold(), keep=("cart", "visits"))
    session.persistent = "remember" in request.form
    session["name"] = name  # as it was typed; the owner is what identifies the user
    session["new_id"] = {"before": before[-4:], "after": session.id[-4:]}
    say(f"Welcome, {name}!")
    return to("index")


@shop.post("/sign-out")
def sign_out() -> Response:
    the_session().destroy()  # gone on the server, at once
    return to("index")


# The script static/time-left.js warns before the session ends. Asking mustn't keep it alive.


@shop.get("/session/left")
def left() -> dict[str, Any]:
    session = the_session()
    session.passive = True
    return {"signed_in": session.owner is not None, "seconds": session.time_left.total_seconds()}


@shop.post("/session/stay")
def stay() -> tuple[str, int]:
    the_session().touch()
    return "", 204


# Where you're signed in


@shop.get("/devices")
def devices() -> str | Response:
    session = the_session()
    if session.owner is None:
        return to("sign_in_form")
    try:
        found = sessions().registry.sessions(session.owner)
    except UnsupportedByStore:
        return render_template("devices.html", devices=None)
    return render_template("devices.html", devices=found)


@shop.post("/devices/sign-out")
def sign_out_device() -> Response:
    session, registry = the_session(), sessions().registry
    handle = request.form.get("handle", "")
    info = registry.get(handle)
    if info is None or info.owner is None or info.owner != session.owner:
        abort(404, "You aren't signed in on that device (any more).")
    if handle == session.handle:
        return sign_out()
    registry.revoke(handle)
    say(f"{device(info.label.get('user_agent', ''))} is signed out.")
    return to("devices")


@shop.post("/devices/sign-out-others")
def sign_out_others() -> Response:
    session = the_session()
    if session.owner is not None:
        count = sessions().registry.revoke_all(session.owner, except_=session)
        say(f"Signed out everywhere else: {count}.")
    return to("devices")


# What the session knows about itself


@shop.get("/session")
def about_session() -> str:
    client = request.environ["wsgi_sessions.client"]
    return render_template(
        "session.html",
        store=type(sessions().store).__name__,
        cookie=current_app.config["SITE_COOKIE"],
        sent=shortened(request.cookies.get(current_app.config["SITE_COOKIE"].name, "")),
        # The forms' token is a secret like the cookie, and this page itself takes the message out.
        fields={k: v for k, v in the_session().items() if k not in {"csrf", "message"}},
        hops=current_app.config["HOPS"],
        ip=client.ip,
        secure=request.is_secure,
        problems=", ".join(client.problems),
        settings=sessions().describe(),
    )


@shop.get("/proxy/")
def proxy() -> str | dict[str, Any]:
    found = survey(request.environ)
    if request.args.get("format") == "json":
        return found
    # python -m flask_app has waitress pass on what proxies write, so this warning isn't for us.
    found["warnings"] = [text for text in found["warnings"] if not text.startswith("waitress ")]
    return render_template("proxy.html", found=found, hops=current_app.config["HOPS"])


def shortened(token: str) -> str:
    """Enough of a cookie's value to see that it is the same, or another."""
    return f"{token[:6]}…{token[-6:]}, {len(token)} characters" if token else ""


# For clients without pages


@shop.get("/api/cart")
def api_cart() -> dict[str, Any]:
    session = the_session()
    items = session.get("cart", {})
    return {"cart": items, "total": price(total(items)), "owner": session.owner}


@shop.post("/api/cart/<slug>")
def api_put_in_cart(slug: str) -> dict[str, Any]:
    put_in_cart(slug)
    the_session().pop("message", None)
    return api_cart()


@shop.app_errorhandler(400)
@shop.app_errorhandler(403)
@shop.app_errorhandler(404)
def sorry(error: Any) -> tuple[str, int]:
    return render_template("sorry.html", text=error.description), error.code


@shop.app_errorhandler(UnsupportedByStore)
def not_in_this_mode(error: UnsupportedByStore) -> tuple[str, int]:
    return render_template("sorry.html", text=str(error)), 400
