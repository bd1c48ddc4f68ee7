"""Authlib's Flask client, unchanged, on FlaskSessions: whole sign-ins with a provider in process.

Authlib's own tests of it aren't in its sdists, so they can only be run where its repository can be
fetched (test_flask_suites). What these rely on of a session is here: state, nonce, code verifier and
request token are kept from the redirect to the callback, and a token is kept as it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from flask import Flask, redirect, session
from flask.testing import FlaskClient
from werkzeug.wrappers import Response

from device import Device, base64url
from wsgi_sessions.flask import FlaskSessions
from wsgi_sessions.flask import session as ours
from wsgi_sessions.stores import MemoryStore

pytest.importorskip("authlib", reason="authlib isn't installed (it's in the dependency group test)")
requests = pytest.importorskip("requests", reason="authlib's Flask client needs requests")

from authlib.integrations.base_client.errors import (  # noqa: E402 # may be missing
    MismatchingStateError,
    OAuthError,
)
from authlib.integrations.flask_client import (  # noqa: E402 # as above
    FlaskOAuth1App,
    FlaskOAuth2App,
    OAuth,
)

SECRET = "a secret of at least thirty-two bytes, for tests"
PROVIDER = "https://id.example"
CALLBACK = "https://localhost/callback"


class Provider:
    """A provider of OAuth 1, OAuth 2 with PKCE, and OpenID Connect, that holds clients to them."""

    def __init__(self) -> None:
        self.key = Device("RS256")
        self.codes: dict[str, dict[str, str]] = {}
        self.request_tokens: dict[str, str] = {}
        self.nonce: str | None = None
        """What an ID token says instead of what it should."""

    # What the browser is sent to

    def authorize(self, address: str) -> str:
        """The user agrees; where the browser is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        if "oauth_token" in asked:
            assert asked["oauth_token"] in self.request_tokens
            answer = {"oauth_token": asked["oauth_token"], "oauth_verifier": "agreed"}
            return f"{CALLBACK}?{urlencode(answer)}"
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    # What the app asks

    def answer(self, path: str, authorization: str, sent: dict[str, str]) -> Any:
        if path == "/request-token":
            token = f"request-{len(self.request_tokens)}"
            self.request_tokens[token] = "secret"
            return urlencode({"oauth_token": token, "oauth_token_secret": "secret"})
        if path == "/access-token":
            (token,) = re.findall(r'oauth_token="([^"]+)"', authorization)
            assert 'oauth_verifier="agreed"' in authorization
            assert self.request_tokens.pop(token)
            return urlencode({"oauth_token": "access", "oauth_token_secret": "s", "name": "ada"})
        if path == "/token":
            return self._token(self.codes.pop(sent["code"]), sent)
        assert path == "/me" and authorization == "Bearer access"
        return {"sub": "ada"}

    def _token(self, asked: dict[str, str], sent: dict[str, str]) -> dict[str, Any]:
        assert sent["redirect_uri"] == asked["redirect_uri"]
        if "code_challenge" in asked:
            digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
            assert base64url(digest) == asked["code_challenge"]
        token = {"access_token": "access", "token_type": "Bearer", "expires_in": 3600}
        if "nonce" not in asked:
            return token
        now = int(time.time())
        claims = {"iss": PROVIDER, "sub": "ada", "aud": "app", "iat": now, "exp": now + 600}
        return {
            **token,
            "id_token": self._signed({**claims, "nonce": self.nonce or asked["nonce"]}),
        }

    def _signed(self, claims: dict[str, Any]) -> str:
        parts = ({"alg": "RS256", "kid": "1"}, claims)
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{base64url(self.key.sign(signed.encode()))}"

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": PROVIDER,
            "jwks": {"keys": [{**self.key.jwk, "kid": "1", "use": "sig", "alg": "RS256"}]},
            "id_token_signing_alg_values_supported": ["RS256"],
        }


def in_process(provider: Provider) -> Any:
    """What requests sends to the provider, without a network."""

    class Adapter(requests.adapters.BaseAdapter):  # type: ignore[misc,name-defined] # may be missing
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            body = request.body or b""
            text = body.decode() if isinstance(body, bytes) else body
            header = request.headers.get("Authorization") or b""
            authorization = header.decode() if isinstance(header, bytes) else header
            path = urlsplit(request.url).path
            answer = provider.answer(path, authorization, dict(parse_qsl(text)))
            response = requests.Response()
            response.status_code, response.request, response.url = 200, request, request.url
            said = answer if isinstance(answer, str) else json.dumps(answer)
            response.raw = io.BytesIO(said.encode())
            return response

        def close(self) -> None:
            pass

    return Adapter()


def connected(kind: Any, provider: Provider) -> Any:
    """Authlib's client, whose requests go to this provider."""

    class Session(kind.client_cls):  # type: ignore[misc] # a class of its own for each kind
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.mount(PROVIDER, in_process(provider))

    class Connected(kind):  # type: ignore[misc] # as above
        client_cls = Session

    return Connected


@pytest.fixture
def provider() -> Provider:
    return Provider()


def make_app(provider: Provider, kind: Any, **options: Any) -> tuple[Flask, list[Exception]]:
    """An app that signs users in as Authlib's documentation has it, and keeps the token."""
    app, refused = Flask(__name__), []
    app.config.update(SECRET_KEY=SECRET, PREFERRED_URL_SCHEME="https", TESTING=True)
    FlaskSessions(app, store=MemoryStore())
    remote = OAuth(app).register(
        "id", client_cls=connected(kind, provider), client_id="app", client_secret="s", **options
    )

    @app.get("/login")
    def login() -> Any:
        return remote.authorize_redirect(CALLBACK)

    @app.get("/callback")
    def callback() -> Response | str:
        try:
            token = remote.authorize_access_token()
        except OAuthError as error:
            refused.append(error)
            return "refused"
        ours.login(token.get("userinfo", {}).get("sub") or token.get("name") or "somebody")
        session["token"] = token
        return redirect("/")

    @app.get("/")
    def index() -> dict[str, Any]:
        return {"owner": ours.owner, "token": session.get("token"), "kept": sorted(session)}

    @app.get("/me")
    def me() -> Any:
        return remote.get(f"{PROVIDER}/me", token=session["token"]).json()

    return app, refused


OAUTH1 = {
    "request_token_url": f"{PROVIDER}/request-token",
    "access_token_url": f"{PROVIDER}/access-token",
    "authorize_url": f"{PROVIDER}/authorize",
}
OAUTH2 = {"access_token_url": f"{PROVIDER}/token", "authorize_url": f"{PROVIDER}/authorize"}
PKCE = {**OAUTH2, "client_kwargs": {"code_challenge_method": "S256"}}


def openid(provider: Provider) -> dict[str, Any]:
    options = {"scope": "openid profile", "code_challenge_method": "S256"}
    return {**OAUTH2, **provider.metadata, "client_kwargs": options}


def signed_in(client: FlaskClient, provider: Provider) -> Any:
    """Go through all of it as a browser does; what the first page says."""
    location = client.get("/login").headers["Location"]
    return client.get(provider.authorize(location), follow_redirects=True).json


def test_oauth_1_finds_its_request_token_again(provider: Provider) -> None:
    app, _ = make_app(provider, FlaskOAuth1App, **OAUTH1)

    seen = signed_in(app.test_client(), provider)

    assert seen["owner"] == "ada"
    assert seen["token"]["oauth_token"] == "access"
    assert seen["kept"] == ["token"]  # what it kept until the callback is gone


@pytest.mark.parametrize("options", [OAUTH2, PKCE], ids=["state", "PKCE"])
def test_oauth_2_finds_its_state_and_verifier_again(
    provider: Provider, options: dict[str, Any]
) -> None:
    app, _ = make_app(provider, FlaskOAuth2App, **options)
    client = app.test_client()

    seen = signed_in(client, provider)

    assert seen["token"]["access_token"] == "access"
    assert seen["kept"] == ["token"]
    assert client.get("/me").json == {"sub": "ada"}


def test_openid_connect_finds_its_nonce_again(provider: Provider) -> None:
    app, _ = make_app(provider, FlaskOAuth2App, **openid(provider))

    seen = signed_in(app.test_client(), provider)

    assert seen["owner"] == "ada"
    assert seen["token"]["userinfo"]["sub"] == "ada"


def test_another_nonce_is_refused(provider: Provider) -> None:
    app, _ = make_app(provider, FlaskOAuth2App, **openid(provider))
    provider.nonce = "another"
    client = app.test_client()

    location = client.get("/login").headers["Location"]

    with pytest.raises(Exception, match="(?i)nonce"):
        client.get(provider.authorize(location))


@pytest.mark.parametrize(
    "steal",
    [
        lambda app, client, address: app.test_client().get(address),
        lambda app, client, address: client.get(re.sub("state=[^&]+", "state=forged", address)),
        lambda app, client, address: [client.get(address), client.get(address)][1],
    ],
    ids=["another browser", "another state", "a second time"],
)
def test_a_state_is_good_in_its_session_and_once(
    provider: Provider, steal: Callable[[Flask, FlaskClient, str], Any]
) -> None:
    app, refused = make_app(provider, FlaskOAuth2App, **PKCE)
    client = app.test_client()
    address = provider.authorize(client.get("/login").headers["Location"])

    steal(app, client, address)

    assert [type(error) for error in refused] == [MismatchingStateError]


def test_sign_ins_in_two_tabs_keep_out_of_each_others_way(provider: Provider) -> None:
    app, refused = make_app(provider, FlaskOAuth2App, **PKCE)
    client = app.test_client()
    first, second = (provider.authorize(client.get("/login").headers["Location"]) for _ in "ab")

    for address in (second, first):
        assert client.get(address).status_code == 302

    assert refused == []
    assert json.loads(client.get("/").data)["kept"] == ["token"]
