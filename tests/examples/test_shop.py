"""The example shop in each of its modes, by a test client."""

from __future__ import annotations

import importlib
import json
import re
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

import shop
from device import Agent, read_offer
from wsgi_sessions.testing import FakeClock

sys.path.insert(0, str(shop.EXAMPLES))
flask_app: Any = importlib.import_module("flask_app")

MODES = ["server", "client", "signed", "sealed", "header"]
ON_THE_SERVER = ["server", "sealed", "header"]


class Shop:
    def __init__(self, var: Path, **environ: str) -> None:
        self.var = var
        self.app = flask_app.make_app({"SHOP_VAR": str(var), **environ})

    def visitor(self, base: str = "http://localhost/", *, follow: bool = True) -> shop.Visitor:
        client = Client(self.app)

        def fetch(path: str, form: dict[str, str] | None) -> tuple[int, Any, str]:
            answer = client.open(
                path,
                base_url=base,
                method="GET" if form is None else "POST",
                data=form,
                follow_redirects=follow,
                buffered=True,
            )
            return answer.status_code, answer.headers, answer.text

        return shop.Visitor(fetch)


@pytest.fixture
def server_side(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_the_walk_through_the_shop(mode: str, tmp_path: Path) -> None:
    shop.walk(Shop(tmp_path, SHOP_MODE=mode).visitor())


def test_the_walk_on_redis(redis_server: Any, tmp_path: Path) -> None:
    shop.walk(Shop(tmp_path, STORE_URL=redis_server.url).visitor())

    assert not (tmp_path / "sessions").exists()


@pytest.mark.parametrize("mode", ON_THE_SERVER)
def test_the_walk_on_sqlite(mode: str, tmp_path: Path) -> None:
    here = Shop(tmp_path, SHOP_MODE=mode, STORE_URL=f"sqlite:///{tmp_path}/sessions.db")
    try:
        shop.walk(here.visitor())
    finally:
        here.app.config["SESSIONS"].store.close()

    assert not (tmp_path / "sessions").exists()


@pytest.mark.parametrize("mode", ON_THE_SERVER)
def test_one_device_signs_out_another(mode: str, tmp_path: Path) -> None:
    here = Shop(tmp_path, SHOP_MODE=mode)
    phone, laptop = here.visitor(), here.visitor()
    phone.sign_in("ada")
    laptop.sign_in("ada")
    phone.get("/session")
    laptop.get("/devices")
    assert laptop.page.count("this device") == 1

    laptop.post("/devices/sign-out", handle=str(phone.handle))
    phone.get("/")

    assert phone.owner is None
    assert laptop.owner == "ada"


def test_all_others_are_signed_out_and_this_device_is_not(server_side: Shop) -> None:
    visitors = [server_side.visitor() for _ in range(3)]
    for visitor in visitors:
        visitor.sign_in("ada")
    stranger = server_side.visitor()
    stranger.sign_in("grace")

    visitors[0].get("/devices")
    visitors[0].post("/devices/sign-out-others")

    assert "Signed out everywhere else: 2." in visitors[0].page
    for visitor in [*visitors, stranger]:
        visitor.get("/")
    assert [v.owner for v in [*visitors, stranger]] == ["ada", None, None, "grace"]


def test_nobody_signs_out_somebody_else(server_side: Shop) -> None:
    ada, eve = server_side.visitor(), server_side.visitor()
    ada.sign_in("ada")
    ada.get("/session")
    eve.sign_in("eve")

    eve.post("/devices/sign-out", handle=str(ada.handle))

    assert eve.status == 404
    ada.get("/")
    assert ada.owner == "ada"


def test_nobody_ends_the_session_of_a_visitor_without_a_name(server_side: Shop) -> None:
    visitor, eve = server_side.visitor(), server_side.visitor()
    visitor.get("/")
    visitor.get("/session")
    eve.get("/")

    eve.post("/devices/sign-out", handle=str(visitor.handle))

    assert eve.status == 404


@pytest.mark.parametrize("mode", ["client", "signed"])
def test_client_side_modes_say_what_they_cannot_do(mode: str, tmp_path: Path) -> None:
    visitor = Shop(tmp_path, SHOP_MODE=mode).visitor()
    visitor.sign_in("ada")

    assert "list your sessions or end them" in visitor.get("/devices")
    visitor.get("/")
    visitor.post("/devices/sign-out", handle="0" * 64)
    assert visitor.status == 400


FORMS = ("/cart/cup", "/order", "/sign-in", "/sign-out", "/devices/sign-out", "/api/cart/cup")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("token", ["", "wrong", "ä"])
def test_a_form_of_another_site_is_refused(mode: str, token: str, tmp_path: Path) -> None:
    visitor = Shop(tmp_path, SHOP_MODE=mode).visitor()
    visitor.get("/")

    for path in FORMS:
        visitor.forge(path, csrf=token, name="eve")

        assert visitor.status == 403, path
        visitor.get("/")
        assert (visitor.owner, visitor.in_cart) == (None, 0), path


def test_a_form_without_any_session_is_refused(server_side: Shop) -> None:
    visitor = server_side.visitor()

    visitor.forge("/sign-in", csrf="", name="eve")

    assert visitor.status == 403


def test_a_token_of_before_the_sign_in_is_worth_nothing_after_it(server_side: Shop) -> None:
    visitor = server_side.visitor()
    old = visitor.get("/sign-in")
    visitor.post("/sign-in", name="ada")

    token = re.search(r'name="csrf" value="([^"]+)"', old)
    assert token is not None
    visitor.forge("/sign-out", csrf=token[1])

    assert visitor.status == 403


@pytest.mark.parametrize("path", ["/", "/cart", "/session", "/sign-in", "/nowhere", "/api/cart"])
def test_no_cache_keeps_a_page(server_side: Shop, path: str) -> None:
    visitor = server_side.visitor()

    visitor.get(path)

    assert visitor.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["shop.css", "leaf.svg"])
def test_static_files_leave_the_session_alone(server_side: Shop, name: str) -> None:
    visitor = server_side.visitor()

    visitor.get(f"/static/{name}")

    assert visitor.status == 200
    assert "Set-Cookie" not in visitor.headers
    assert "Cookie" not in visitor.headers.get("Vary", "")


@pytest.mark.parametrize("remember", [True, False])
def test_remember_me_makes_the_cookie_outlive_the_browser(
    server_side: Shop, *, remember: bool
) -> None:
    client = Client(server_side.app)
    page = client.get("/sign-in").text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    form = {"csrf": token[1], "name": "ada"} | ({"remember": "on"} if remember else {})

    answer = client.post("/sign-in", data=form)

    assert ("Max-Age=1209600" in answer.headers["Set-Cookie"]) is remember


def test_a_client_without_cookies_brings_its_token_in_a_header(tmp_path: Path) -> None:
    client = Client(Shop(tmp_path, SHOP_MODE="header").app, use_cookies=False)
    first = client.post("/api/cart/cup", headers={"X-Session-Token": ""})
    token = {"X-Session-Token": first.headers["X-Session-Token"]}

    second = client.post("/api/cart/cup", headers=token)

    assert "Set-Cookie" not in first.headers
    assert second.json == {"cart": {"cup": 2}, "total": "€32.00", "owner": None}


def test_only_sealed_sessions_are_unreadable_in_the_store(tmp_path: Path) -> None:
    readable = {}
    for mode in ("server", "sealed"):
        visitor = Shop(tmp_path, SHOP_MODE=mode).visitor()
        visitor.get("/")
        visitor.post("/cart/teapot")
        files = [f for f in (tmp_path / "sessions" / mode).rglob("*") if f.is_file()]
        readable[mode] = any(b'"teapot"' in file.read_bytes() for file in files)

    assert readable == {"server": True, "sealed": False}


def test_the_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    Shop(tmp_path)
    secret = (tmp_path / "secret").read_text()
    Shop(tmp_path)

    assert (tmp_path / "secret").read_text() == secret
    assert len(secret) >= 43
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [f.name for f in tmp_path.glob("secret*")] == ["secret"]


def test_a_secret_of_the_environment_is_used_and_not_kept(tmp_path: Path) -> None:
    Shop(tmp_path, SECRET_KEY="x1yVJ9mK2vQb7TzP4sLd8uYf3hCn6aGe")

    assert not (tmp_path / "secret").exists()


def test_the_session_page_does_not_list_the_message_that_it_shows(server_side: Shop) -> None:
    visitor = server_side.visitor(follow=False)
    visitor.get()
    visitor.post("/cart/teapot")

    assert "Brown teapot: added to your cart." in visitor.get("/session")
    assert "<code>cart</code>" in visitor.page
    assert "<code>message</code>" not in visitor.page


def test_bound_to_a_device_the_pages_say_so(tmp_path: Path) -> None:
    here = Shop(tmp_path, SHOP_BINDING="refuse", SHOP_COOKIE="host")
    client = Client(here.app)
    agent = Agent(here.app)

    def fetch(path: str, form: dict[str, str] | None) -> tuple[int, Any, str]:
        answer = client.open(
            path,
            base_url="https://localhost/",
            method="GET" if form is None else "POST",
            data=form,
        )
        for header in answer.headers.getlist("Secure-Session-Registration"):
            agent.offer = read_offer(header)
        return answer.status_code, answer.headers, answer.text

    visitor = shop.Visitor(fetch)
    visitor.get("/sign-in")
    visitor.post("/sign-in", name="ada")
    assert '<dd id="bound">no</dd>' in visitor.get("/session")
    assert ">bound</mark>" not in visitor.get("/devices")

    assert agent.register().status == 200
    client.set_cookie(agent.second, agent.cookies[agent.second], secure=True)

    assert re.search(r'<dd id="bound">since .* UTC, and proven</dd>', visitor.get("/session"))
    assert ">bound</mark>" in visitor.get("/devices")


@pytest.mark.parametrize("name", ["SHOP_MODE", "SHOP_COOKIE", "SHOP_BINDING"])
def test_a_wrong_setting_says_what_is_allowed(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"{name} is 'odd'; write one of"):
        Shop(tmp_path, **{name: "odd"})


@pytest.mark.parametrize("form", [{"count": "-1"}, {"count": "100"}, {"count": "many"}])
def test_an_odd_count_is_refused(server_side: Shop, form: dict[str, str]) -> None:
    visitor = server_side.visitor()
    visitor.get("/")

    visitor.post("/cart/cup", **form)

    assert visitor.status == 400
    assert visitor.in_cart == 0


@pytest.mark.parametrize(("hops", "address"), [("0", "127.0.0.1"), ("1", "203.0.113.7")])
def test_the_session_page_shows_the_client_that_the_proxies_report(
    hops: str, address: str, tmp_path: Path
) -> None:
    client = Client(Shop(tmp_path, TRUSTED_PROXIES=hops).app)

    page = client.get(
        "/session",
        headers={"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"},
        environ_overrides={"REMOTE_ADDR": "127.0.0.1"},
    ).text

    assert f"<dd><code>{address}</code></dd>" in page
    assert "trusted_proxies:" in page


def test_the_proxy_probe_is_mounted(server_side: Shop) -> None:
    assert "Proxy probe" in server_side.visitor().get("/proxy/probe/")


@pytest.mark.parametrize(
    ("hops", "forwarded", "says"),
    [
        ("0", {}, "<b>The shop is set up correctly:</b> <code>TRUSTED_PROXIES=0</code>"),
        (
            "0",
            {"X-Forwarded-For": "203.0.113.7, 10.0.0.1", "X-Forwarded-Proto": "https"},
            '<code id="advice">TRUSTED_PROXIES=2</code>; it is 0 at present',
        ),
        (
            "1",
            {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"},
            "<b>The shop is set up correctly:</b> <code>TRUSTED_PROXIES=1</code>",
        ),
        (
            "0",
            {"Forwarded": "for=203.0.113.7;proto=https"},
            '<code id="advice">trusted_proxies=TrustedProxies(hops=1',
        ),
    ],
)
def test_the_page_on_proxies_gives_advice_that_is_true_for_the_shop(
    hops: str, forwarded: dict[str, str], says: str, tmp_path: Path
) -> None:
    client = Client(Shop(tmp_path, TRUSTED_PROXIES=hops).app)

    page = client.get(
        "/proxy/",
        headers=forwarded,
        base_url="https://localhost",
        environ_overrides={"SERVER_SOFTWARE": "waitress"},
    ).text

    assert says in page
    assert ">Back to the shop</a>" in page
    assert "waitress" not in page
    assert '<th scope="col">Client</th>' in page
    answer = client.get("/proxy/?format=json", headers=forwarded)
    assert json_of(answer)["received"].keys() >= {"wsgi.url_scheme"}


def test_a_name_keeps_its_capitals_and_is_one_user_however_it_is_written(server_side: Shop) -> None:
    one, other = server_side.visitor(), server_side.visitor()
    one.sign_in("Ada Lovelace")
    other.sign_in("ADA LOVELACE")

    assert one.owner == "Ada Lovelace"
    assert "Welcome, Ada Lovelace!" in one.page
    assert one.get("/devices").count('class="what"') == 2


def test_the_session_page_shows_what_is_in_the_session_and_what_sign_in_changed(
    server_side: Shop,
) -> None:
    visitor = server_side.visitor()
    visitor.get("/")
    visitor.post("/cart/cup")
    assert "died" not in visitor.get("/session")
    visitor.sign_in("Ada")

    page = visitor.get("/session")

    assert '<dt><code>cart</code></dt><dd><code>{"cup": 1}</code></dd>' in page
    assert "<code>csrf</code>" not in page
    assert re.search(r"<code>shop=\S{6}…\S{6}, \d+ characters</code>", page)
    end = r'<code class="whole">…\S{4}</code>'
    assert re.search(f"ended in {end} died, and one that ends in {end} took", page)


@pytest.mark.parametrize("mode", ["client", "signed"])
def test_the_session_page_does_not_claim_that_a_cookie_with_the_data_dies(
    mode: str, tmp_path: Path
) -> None:
    visitor = Shop(tmp_path, SHOP_MODE=mode).visitor()
    visitor.sign_in("Ada")

    page = visitor.get("/session")

    assert "A copy of the old cookie would still open the old session" in page
    assert "died" not in page
    assert "saved on its own" not in page


def test_a_first_visit_to_the_session_page_has_no_cookie_to_show(server_side: Shop) -> None:
    assert "Nothing yet" in server_side.visitor().get("/session")


def test_putting_something_into_the_cart_keeps_the_place_on_the_page(tmp_path: Path) -> None:
    client = Client(Shop(tmp_path).app)
    token = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
    assert token is not None

    answer = client.post("/cart/cup", data={"csrf": token[1]})

    assert answer.headers["Location"] == "/#cup"


def json_of(answer: TestResponse) -> Any:
    return json.loads(answer.text)


@pytest.mark.parametrize("mode", MODES)
def test_asking_for_the_time_left_does_not_count_as_use(mode: str, tmp_path: Path) -> None:
    clock = FakeClock(time.time())
    settings = {"SHOP_VAR": str(tmp_path), "SHOP_MODE": mode, "SHOP_IDLE": "100"}
    client = Client(shop.app_by(clock, **settings))

    page = client.get("/sign-in").text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    assert json_of(client.get("/session/left"))["signed_in"] is False
    client.post("/sign-in", data={"csrf": token[1], "name": "ada"})

    first = client.get("/session/left")
    clock.advance(10)
    second = client.get("/session/left")

    assert "Set-Cookie" not in second.headers
    assert json_of(first) == {"signed_in": True, "seconds": 100}
    assert json_of(second) == {"signed_in": True, "seconds": 90}
    assert 'data-left="/session/left"' in client.get("/").text
    token = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
    assert token is not None
    clock.advance(10)
    assert json_of(client.get("/session/left"))["seconds"] < 100
    assert client.post("/session/stay", data={"csrf": token[1]}).status_code == 204
    assert json_of(client.get("/session/left"))["seconds"] == 100


def test_nobody_is_warned_who_is_not_signed_in(server_side: Shop) -> None:
    assert "time-left.js" not in server_side.visitor().get("/")
