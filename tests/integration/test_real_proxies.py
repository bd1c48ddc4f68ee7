"""Real nginx, HAProxy and Caddy, configured as docs/behind-a-proxy.md says, before real gunicorn.

All of them listen on loopback. The client and each proxy connect from addresses of their own
(127.0.0.0/8 is all loopback on Linux), so that a mix-up of hops shows.
"""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ports import free_port
from programs import missing

pytestmark = pytest.mark.programs

HERE = Path(__file__).parent
DOCS = (HERE.parent.parent / "docs" / "behind-a-proxy.md").read_text("utf-8")
CLIENT, HAPROXY, NGINX = "127.0.0.77", "127.0.0.5", "127.0.0.6"
SITE = "shop.example"
PATIENCE = 100
"""Seconds after which what doesn't come is a failure."""
Headers = Sequence[tuple[str, str]]


# The programs


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        missing("proxies", f"there is no {name} on the PATH (Debian: apt-get install {name})")
    return found


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], socket.socket], **options: Any
) -> Iterator[None]:
    """The program in the foreground, from when it takes connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        for _ in range(PATIENCE * 20):
            try:
                ready().close()
                break
            except OSError:
                # Waits a moment, or notices at once that the program gave up.
                try:
                    process.wait(timeout=0.05)
                except subprocess.TimeoutExpired:
                    continue
                pytest.fail(f"{command[0]} ended: {log.read_text()[-2000:]}")
        else:
            pytest.fail(f"{command[0]} takes no connections: {log.read_text()[-2000:]}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def connecting(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def connecting_unix(path: Path) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(str(path))
        except OSError:
            made.close()
            raise
        return made

    return connect


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for the site and for 127.0.0.1."""

    pem: Path
    """The certificate alone."""
    key: Path
    both: Path
    """Certificate and key in one file, as HAProxy likes it."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SITE)])
    now = dt.datetime.now(dt.UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SITE), loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files = tmp_path_factory.mktemp("certificate")
    found = Certificate(files / "site.pem", files / "site.key", files / "both.pem")
    found.pem.write_bytes(made)
    found.key.write_bytes(secret)
    found.both.write_bytes(made + secret)
    return found


# Configurations, out of the docs


def block(language: str, *words: str) -> str:
    """The docs' first block of that language that has all these words."""
    for code in re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL):
        if all(word in code for word in words):
            return str(code)
    raise AssertionError(f"docs/behind-a-proxy.md has no {language} block with {words}")


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """The docs' text with this machine's addresses and files."""
    for old, new in changes.items():
        assert old in text, f"the docs' block has no {old!r}"
        text = text.replace(old, new)
    return text


def nginx_config(files: Path, server: str) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"    {kind}_temp_path {files}/{kind};" for kind in kinds)
    bind = "" if "http://unix:" in server else f"proxy_bind {NGINX};"
    return (
        f"daemon off;\nmaster_process off;\npid {files}/nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\n    access_log off;\n{paths}\n"
        f"    {bind}\n{server}\n}}\n"
    )


def haproxy_config(text: str) -> str:
    return (
        "global\n    maxconn 100\n"
        f"defaults\n    timeout connect {PATIENCE}s\n"
        f"    timeout client {PATIENCE}s\n    timeout server {PATIENCE}s\n"
        f"    source {HAPROXY}\n{text}"
    )


@dataclass(frozen=True)
class Chain:
    """A chain of proxies that runs."""

    https: int
    """The outermost proxy's port for TLS."""
    http: int | None
    """Its port without, if it has one."""
    hops: int
    seen_by_app: str | None
    """The address that the app's server sees; None: it was absent."""
    path: str = "/"


class Machine:
    """Starts programs, each with files of its own, until the tests are over."""

    def __init__(
        self, stack: ExitStack, files: Path, certificate: Certificate, *, nginx: str, haproxy: str
    ) -> None:
        self._stack = stack
        self._files = files
        self._certificate = certificate
        self._nginx = nginx
        self._haproxy = haproxy

    def gunicorn(self, options: str, *, unix: Path | None = None) -> int:
        """The app under gunicorn; its port."""
        files = self._new_directory("gunicorn")
        config = files / "gunicorn.conf.py"
        config.write_text(block("python", "gunicorn.conf.py"))
        command = [sys.executable, "-m", "gunicorn", "--chdir", str(HERE), "--threads", "2"]
        command += ["--config", str(config), f"proxied_app:make({options})"]
        if unix is not None:
            self._run([*command, "--bind", f"unix:{unix}"], files, connecting_unix(unix))
            return 0
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
            bound = [*command, "--bind", f"fd://{listener.fileno()}"]
            # The socket takes connections from the start; they wait until gunicorn is there.
            self._run(bound, files, connecting(port), pass_fds=[listener.fileno()])
        return port

    def nginx(self, server: str, changes: Mapping[str, str]) -> int:
        """nginx with this server block of the docs; its port."""
        files, port = self._new_directory("nginx"), free_port()
        mine = {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            **dict.fromkeys(re.findall(r"/etc/nginx/\S+\.pem", server), str(self._certificate.pem)),
            **dict.fromkeys(re.findall(r"/etc/nginx/\S+\.key", server), str(self._certificate.key)),
            **changes,
        }
        (files / "nginx.conf").write_text(nginx_config(files, adapted(server, mine)))
        command = [self._nginx, "-p", str(files), "-e", "stderr", "-c", str(files / "nginx.conf")]
        self._run(command, files, connecting(port))
        return port

    def haproxy(self, text: str, changes: Mapping[str, str]) -> tuple[int, int]:
        """HAProxy with these blocks of the docs; its ports for TLS and without."""
        files = self._new_directory("haproxy")
        https, plain = free_port(), free_port()
        mine = {
            "bind :443": f"bind 127.0.0.1:{https}",
            "bind :80": f"bind 127.0.0.1:{plain}",
            "/etc/haproxy/shop.pem": str(self._certificate.both),
            **changes,
        }
        (files / "haproxy.cfg").write_text(haproxy_config(adapted(text, mine)))
        command = [self._haproxy, "-db", "-f", str(files / "haproxy.cfg")]
        self._run(command, files, connecting(https))
        return https, plain

    def caddy(self, text: str, changes: Mapping[str, str]) -> int:
        """Caddy with this block of the docs, but without TLS; its port."""
        files, port = self._new_directory("caddy"), free_port()
        mine = {f"{SITE} {{": f"http://{SITE}:{port} {{\n    bind 127.0.0.1", **changes}
        (files / "Caddyfile").write_text("{\n    admin off\n}\n" + adapted(text, mine))
        command = [program("caddy"), "run", "--config", str(files / "Caddyfile")]
        kept = {"HOME": str(files), "XDG_DATA_HOME": str(files), "XDG_CONFIG_HOME": str(files)}
        self._run(
            [*command, "--adapter", "caddyfile"], files, connecting(port), env=os.environ | kept
        )
        return port

    def _new_directory(self, name: str) -> Path:
        made = self._files / f"{name}-{len(list(self._files.iterdir()))}"
        made.mkdir()
        return made

    def _run(
        self,
        command: Sequence[str],
        files: Path,
        ready: Callable[[], socket.socket],
        **options: Any,
    ) -> None:
        self._stack.enter_context(running(command, files / "log", ready, **options))


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Machine]:
    try:
        with socket.socket() as probe:
            probe.bind((CLIENT, 0))
    except OSError:
        missing(
            "proxies", "only some addresses of 127.0.0.0/8 are loopback here; Linux has them all"
        )
    with ExitStack() as stack:
        yield Machine(
            stack,
            tmp_path_factory.mktemp("machine"),
            certificate,
            nginx=program("nginx"),
            haproxy=program("haproxy"),
        )


def one_nginx(machine: Machine) -> Chain:
    app = machine.gunicorn("hops=1")
    https = machine.nginx(block("nginx", "listen"), {"127.0.0.1:8000": f"127.0.0.1:{app}"})
    return Chain(https, None, 1, NGINX)


def one_haproxy(machine: Machine) -> Chain:
    app = machine.gunicorn(f"hops=1, peers=('{HAPROXY}',)")
    https, plain = machine.haproxy(
        block("text", "frontend"), {"127.0.0.1:8000": f"127.0.0.1:{app}"}
    )
    return Chain(https, plain, 1, HAPROXY)


def balancer_and_nginx(machine: Machine) -> Chain:
    app = machine.gunicorn("hops=2")
    inner = machine.nginx(
        block("nginx", "allow"), {"10.0.0.4": HAPROXY, "127.0.0.1:8000": f"127.0.0.1:{app}"}
    )
    return balancer(machine, inner)


def balancer_and_nginx_with_its_own_scheme(machine: Machine) -> Chain:
    app = machine.gunicorn("hops=2")
    inner = machine.nginx(block("nginx", "listen"), {"127.0.0.1:8000": f"127.0.0.1:{app}"})
    # What nginx says of itself is true for clients that came by TLS, and only for them.
    return Chain(balancer(machine, inner).https, None, 2, NGINX)


def balancer_and_nginx_on_a_socket(machine: Machine) -> Chain:
    unix = machine._new_directory("unix") / "app.sock"
    machine.gunicorn("hops=2, peers=('unix',)", unix=unix)
    inner = machine.nginx(
        block("nginx", "allow"),
        {"10.0.0.4": HAPROXY, "http://127.0.0.1:8000": f"http://unix:{unix}"},
    )
    chain = balancer(machine, inner)
    return Chain(chain.https, chain.http, 2, "")


def balancer(machine: Machine, inner: int) -> Chain:
    frontend = block("text", "frontend").partition("\nbackend app")[0]
    changes = {
        "10.0.0.5:443": f"127.0.0.1:{inner}",
        "/etc/haproxy/internal-ca.pem": str(machine._certificate.pem),
    }
    https, plain = machine.haproxy(f"{frontend}\n{block('text', 'nginx1')}", changes)
    return Chain(https, plain, 2, NGINX)


def nginx_on_a_socket(machine: Machine) -> Chain:
    unix = machine._new_directory("unix") / "app.sock"
    machine.gunicorn("hops=1, peers=('unix',)", unix=unix)
    location = block("nginx", "unix:")
    server = re.sub(
        r"    location / \{.*?\n    \}\n", lambda _: location, block("nginx"), flags=re.DOTALL
    )
    https = machine.nginx(server, {"/run/shop/app.sock": str(unix)})
    return Chain(https, None, 1, "")


def nginx_under_a_path(machine: Machine) -> Chain:
    app = machine.gunicorn("hops=1, prefix=1")
    location = block("nginx", "location /shop/")
    server = re.sub(
        r"    location / \{.*?\n    \}\n", lambda _: location, block("nginx"), flags=re.DOTALL
    )
    https = machine.nginx(server, {"127.0.0.1:8000": f"127.0.0.1:{app}"})
    return Chain(https, None, 1, NGINX, path="/shop/")


CHAINS = [
    one_nginx,
    one_haproxy,
    balancer_and_nginx,
    balancer_and_nginx_with_its_own_scheme,
    balancer_and_nginx_on_a_socket,
    nginx_on_a_socket,
    nginx_under_a_path,
]
WITH_HTTP = [one_haproxy, balancer_and_nginx, balancer_and_nginx_on_a_socket]


@pytest.fixture(scope="module")
def chains(machine: Machine) -> Callable[[Callable[[Machine], Chain]], Chain]:
    started: dict[Callable[[Machine], Chain], Chain] = {}

    def get(start: Callable[[Machine], Chain]) -> Chain:
        if start not in started:
            started[start] = start(machine)
        return started[start]

    return get


@pytest.fixture
def chain(
    request: pytest.FixtureRequest, chains: Callable[[Callable[[Machine], Chain]], Chain]
) -> Chain:
    return chains(request.param)


def every(starts: Sequence[Callable[[Machine], Chain]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("chain", starts, ids=lambda s: s.__name__, indirect=True)


# The client


@dataclass(frozen=True)
class Answer:
    """What the client got."""

    json: dict[str, Any]
    set_cookie: str | None


def get(
    port: int,
    path: str = "/",
    headers: Headers = (),
    *,
    certificate: Certificate | None = None,
    source: str = CLIENT,
) -> Answer:
    """One request from the client's own address; header lines are sent as they are given."""
    connection: http.client.HTTPConnection
    if certificate is None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=PATIENCE, source_address=(source, 0)
        )
    else:
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            port,
            timeout=PATIENCE,
            source_address=(source, 0),
            context=ssl.create_default_context(cafile=certificate.pem),
        )
    with closing(connection):
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in [("Host", SITE), ("Connection", "close"), *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        cookies = response.headers.get_all("Set-Cookie", [])
        assert len(cookies) <= 1
        return Answer(json.loads(body), cookies[0] if cookies else None)


def attributes(set_cookie: str | None) -> set[str]:
    assert set_cookie is not None
    return {part.strip().partition("=")[0] for part in set_cookie.split(";")[1:]}


SPOOFS: dict[str, Headers] = {
    "for": [("X-Forwarded-For", "6.6.6.6")],
    "for, twice": [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7")],
    "for, list": [("X-Forwarded-For", "6.6.6.6, 127.0.0.1, 127.0.0.6")],
    "for, open quote": [("X-Forwarded-For", '"6.6.6.6')],
    "for, garbage": [("X-Forwarded-For", ",,\\ <script> unknown, ")],
    "proto": [("X-Forwarded-Proto", "http")],
    "proto, twice": [("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "gopher")],
    "host": [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Port", "1")],
    "Forwarded": [("Forwarded", "for=6.6.6.6;proto=http;host=evil.example")],
    "Forwarded, open quote": [("Forwarded", 'for="6.6.6.6')],
    "underscores": [("X_Forwarded_For", "6.6.6.6"), ("X_Forwarded_Proto", "http")],
    "others": [("X-Real-IP", "6.6.6.6"), ("Client-IP", "6.6.6.6"), ("X-Forwarded-Ssl", "on")],
    "the app's place": [("SCRIPT_NAME", "/evil"), ("PATH_INFO", "/evil")],
    "all": [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", "for=6.6.6.6;proto=http"),
        ("X_Forwarded_For", "6.6.6.6"),
    ],
}


# What must be


@every(CHAINS)
def test_the_app_sees_the_client_and_the_cookie_is_secure(
    chain: Chain, certificate: Certificate
) -> None:
    answer = get(chain.https, chain.path, certificate=certificate)

    seen = answer.json
    assert seen["remote_addr"] == CLIENT
    assert seen["is_secure"] is True
    assert seen["url"] == f"https://{SITE}{chain.path}"
    assert seen["client"]["ip"] == CLIENT
    assert seen["client"]["scheme"] == "https"
    assert seen["client"]["problems"] == []
    assert seen["original"]["REMOTE_ADDR"] == chain.seen_by_app
    assert "Secure" in attributes(answer.set_cookie)


@every(CHAINS)
def test_the_session_goes_on(chain: Chain, certificate: Certificate) -> None:
    first = get(chain.https, chain.path, certificate=certificate)
    assert first.set_cookie is not None
    cookie = first.set_cookie.partition(";")[0]

    second = get(chain.https, chain.path, [("Cookie", cookie)], certificate=certificate)

    assert (first.json["visits"], second.json["visits"]) == (1, 2)
    assert second.set_cookie is None


@every(CHAINS)
@pytest.mark.parametrize("spoof", SPOOFS.values(), ids=SPOOFS)
def test_what_a_client_sends_changes_nothing(
    chain: Chain, spoof: Headers, certificate: Certificate
) -> None:
    honest = get(chain.https, chain.path, certificate=certificate)
    lying = get(chain.https, chain.path, spoof, certificate=certificate)

    assert lying.json == honest.json
    assert attributes(lying.set_cookie) == attributes(honest.set_cookie)


@every(WITH_HTTP)
@pytest.mark.parametrize(
    "spoof",
    [
        [],
        [("X-Forwarded-Proto", "https")],
        [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "https")],
        [("X_Forwarded_Proto", "https")],
        [("Forwarded", "for=6.6.6.6;proto=https")],
        [("X-Forwarded-Ssl", "on")],
    ],
)
def test_a_client_that_came_by_http_cannot_claim_https(chain: Chain, spoof: Headers) -> None:
    assert chain.http is not None
    answer = get(chain.http, chain.path, spoof)

    assert answer.json["remote_addr"] == CLIENT
    assert answer.json["is_secure"] is False
    assert answer.json["url"] == f"http://{SITE}{chain.path}"
    assert "Secure" not in attributes(answer.set_cookie)


@every(CHAINS)
def test_the_probe_shows_the_number_that_is_right(chain: Chain, certificate: Certificate) -> None:
    forged: Headers = [
        ("X-Forwarded-For", "192.0.2.66"),
        ("X-Forwarded-Proto", "selftest"),
        ("Forwarded", "for=192.0.2.66;proto=selftest"),
        ("X_Proxy_Probe", "1"),
    ]
    path = f"{chain.path}proxy/?format=json"

    visited = get(chain.https, path, certificate=certificate).json
    tested = get(chain.https, f"{path}&selftest", forged, certificate=certificate).json

    assert visited["right"]["setting"] == f"trusted_proxies={chain.hops}"
    assert tested["right"] == {
        **tested["right"],
        "setting": f"trusted_proxies={chain.hops}",
        "sure": True,
    }
    assert tested["settings"][chain.hops]["ip"] == CLIENT
    assert tested["settings"][chain.hops]["scheme"] == "https"
    assert tested["settings"][chain.hops + 1]["ip"] == "192.0.2.66"
    assert not any("underscores" in warning for warning in tested["warnings"])
    assert tested["now"]["ip"] == CLIENT


def test_who_reaches_the_app_past_the_proxy_is_not_believed(machine: Machine) -> None:
    app = machine.gunicorn(f"hops=1, peers=('{NGINX}',)")

    answer = get(app, headers=[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https")])

    assert answer.json["remote_addr"] == CLIENT
    assert answer.json["is_secure"] is False
    assert answer.json["client"]["problems"] == ["peer_untrusted"]
    assert "Secure" not in attributes(answer.set_cookie)


def test_who_reaches_nginx_past_the_balancer_is_turned_away(
    machine: Machine, certificate: Certificate
) -> None:
    app = machine.gunicorn("hops=2")
    inner = machine.nginx(
        block("nginx", "allow"), {"10.0.0.4": HAPROXY, "127.0.0.1:8000": f"127.0.0.1:{app}"}
    )

    with pytest.raises(AssertionError, match="403 Forbidden"):
        get(inner, headers=[("X-Forwarded-For", "6.6.6.6")], certificate=certificate)
    assert get(inner, certificate=certificate, source=HAPROXY).json["remote_addr"] is not None


def test_networks_find_the_client_through_both_proxies(
    machine: Machine, certificate: Certificate
) -> None:
    app = machine.gunicorn(f"networks=('{HAPROXY}', '{NGINX}')")
    inner = machine.nginx(block("nginx", "listen"), {"127.0.0.1:8000": f"127.0.0.1:{app}"})

    through_one = get(inner, headers=SPOOFS["all"], certificate=certificate)
    through_two = get(
        balancer(machine, inner).https, headers=SPOOFS["all"], certificate=certificate
    )

    assert through_one.json["remote_addr"] == through_two.json["remote_addr"] == CLIENT
    assert through_one.json["is_secure"] is through_two.json["is_secure"] is True


@pytest.mark.parametrize("options", ["hops=1", "hops=1, exact=True"])
def test_caddy_as_the_page_has_it(machine: Machine, options: str) -> None:
    app = machine.gunicorn(options)
    port = machine.caddy(block("text", "reverse_proxy"), {"127.0.0.1:8000": f"127.0.0.1:{app}"})

    for spoof in ("for", "for, twice", "for, list", "proto", "host", "others"):
        client = get(port, headers=SPOOFS[spoof]).json["client"]
        assert (client["ip"], client["scheme"], client["problems"]) == (CLIENT, "http", []), spoof
