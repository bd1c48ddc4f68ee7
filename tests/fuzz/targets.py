"""What is fuzzed: each target takes any bytes, and raises only where something is wrong with us.

`make fuzz` drives them with atheris, which looks for inputs by coverage; the suite drives them for
a moment with hypothesis.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable
from typing import Any
from zlib import crc32

from carry_over import golden
from wsgi import SECRET, Site, call, environ
from wsgi_sessions import TrustedProxies
from wsgi_sessions.carry_over.pickles import read_pickle
from wsgi_sessions.carry_over.source import CannotKeep
from wsgi_sessions.client_side import ClientSeal
from wsgi_sessions.cookie import MAX_CANDIDATES, find_candidates
from wsgi_sessions.crypto.session_id import new_id
from wsgi_sessions.crypto.signing import TokenSigner
from wsgi_sessions.data.codec import CorruptField, JSONCodec, UnstorableValue
from wsgi_sessions.data.notes import CorruptNotes, Notes, dump_notes, load_notes
from wsgi_sessions.engine.owners import Entry, Limits, OwnerLists
from wsgi_sessions.errors import StoreError
from wsgi_sessions.events import printable
from wsgi_sessions.flask import MarkupCodec
from wsgi_sessions.proxies import resolve_client
from wsgi_sessions.record import LIST_OWNER, Record, list_key
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.stores.file import formats
from wsgi_sessions.stores.file.directory import Damaged
from wsgi_sessions.stores.packing import pack, unpack
from wsgi_sessions.testing import FaultyStore

_SIGNER = TokenSigner((SECRET.encode(), b"another secret, of thirty-two bytes or more"), "cookie.s")
_SEALS = [ClientSeal((SECRET.encode(),), encrypt=encrypt) for encrypt in (True, False)]
_CODEC = JSONCodec()
_MARKUP = MarkupCodec()
_STORE = FaultyStore(MemoryStore())
_SITE = Site(store=_STORE, on_event=())
_SITE.routes["/"] = lambda session: repr(dict(session))
_PROXIES = [
    TrustedProxies(hops=1, host=1, port=1, prefix=1),
    TrustedProxies(hops=2, exact=True),
    TrustedProxies(networks=("10.0.0.0/8", "loopback")),
    TrustedProxies(hops=1, host=1, header="forwarded"),
]
_KEY = "ab" * 32
_ENTRY_SIZE = 26
"""Bytes of one session in its owner's list."""
_HEADERS = ("FORWARDED_FOR", "FORWARDED_PROTO", "FORWARDED_HOST", "FORWARDED_PORT",
            "FORWARDED_PREFIX")  # fmt: skip


def cookie_header(data: bytes) -> None:
    """Any Cookie header is read, and only ours is found in it."""
    header = data.decode("latin-1")
    found = find_candidates(header, "s")
    assert len(found.values) <= MAX_CANDIDATES
    for value in found.values:
        assert ";" not in value
        assert value in header


def request(data: bytes) -> None:
    """A whole request with any Cookie header is answered, and the store isn't asked."""
    before = _STORE.calls.total()
    response = call(_SITE.middleware, environ(cookie=data.decode("latin-1")), check=False)
    assert (response.code, response.text) == (200, "{}")
    assert _STORE.calls.total() == before


def token(data: bytes) -> None:
    """Any text is verified or not; what is, is spelled as we spell it."""
    text = data.decode("latin-1")
    verified = _SIGNER.verify(text)
    if verified is not None and verified[1] == 0:
        assert _SIGNER.sign(verified[0]) == text
    for seal in _SEALS:
        assert seal.open(text, "cookie.s") is None


def record(data: bytes) -> None:
    """Any file is a record or damaged; also behind checksums that are right."""
    times = data[:16].ljust(16, b"\0")
    rest = data[16:]
    checked = formats._MAGIC + formats._CRC.pack(crc32(rest)) + times
    for content in (data, checked + formats._CRC.pack(crc32(times)) + rest):
        try:
            found = formats.decode(content)
        except Damaged:
            continue
        assert len(found.notes) <= len(content)
    try:
        unpacked = unpack(data, 0, 1.0, 2.0)
    except ValueError:
        return
    assert unpack(pack(unpacked), 0, 1.0, 2.0) == unpacked


def _unexpected(error: Exception) -> None:
    raise error


def owner_list(data: bytes) -> None:
    """Any record under a list's key is the list or can't be read; what is read can be healed."""
    store = MemoryStore()
    lists = OwnerLists(store, Limits(), lambda: 1.0)
    for raw in (data, data[:_ENTRY_SIZE].ljust(_ENTRY_SIZE, b"\0"), b"\1" + bytes(_ENTRY_SIZE - 1)):
        store.clear()
        store.insert(list_key("ada"), Record({_KEY: raw}, b"", 0.0, math.inf, owner=LIST_OWNER))
        try:
            found = lists.read("ada")
        except StoreError:
            continue
        assert found is not None
        assert {type(entry) for entry in found.entries.values()} == {Entry}
        assert lists.list_and_heal("ada", _unexpected).live == []


def notes(data: bytes) -> None:
    """Any notes are readable or corrupt; what is readable is plain numbers and texts."""
    for raw in (data, b"\x02\x00" + data):
        try:
            found = load_notes(raw)
        except CorruptNotes:
            continue
        assert all(map(math.isfinite, (found.created_at, found.started_at, found.issued_at)))
        assert found.idle > 0
        assert found.absolute > 0
        assert load_notes(dump_notes(found)) == found


def codec(data: bytes) -> None:
    """Any bytes are a value or corrupt; a value is encoded and read again as it is."""
    try:
        value = _CODEC.decode(data)
    except CorruptField:
        return
    _same_again(_CODEC, value)


def _same_again(codec: JSONCodec | MarkupCodec, value: object) -> None:
    try:
        encoded = codec.encode(value)
    except UnstorableValue as error:
        # Reading ends where JSON readers give up, which is deeper than what is written.
        assert "levels deep" in error.reason
        return
    assert repr(codec.decode(encoded)) == repr(value)


def markup(data: bytes) -> None:
    """The same for Flask's codec, which rebuilds values once more."""
    try:
        value = _MARKUP.decode(data)
    except CorruptField:
        return
    _same_again(_MARKUP, value)


def proxies(data: bytes) -> None:
    """Any headers give a client whose parts are what they claim to be."""
    texts = data.decode("latin-1").split("\n")
    made: dict[str, Any] = environ()
    for name, text in zip(_HEADERS, texts, strict=False):
        made[f"HTTP_X_{name}"] = text
    made["HTTP_FORWARDED"] = texts[0]
    if len(texts) > len(_HEADERS):
        made["REMOTE_ADDR"] = texts[-1]
    for trusted in _PROXIES:
        client = resolve_client(made, trusted)
        if client.ip is not None:
            assert str(ipaddress.ip_address(client.ip)) == client.ip
            assert "%" not in client.ip
        assert client.scheme in ("http", "https")
        assert 1 <= client.port <= 65535
        assert not set("\r\n\0 ") & set(client.host + client.prefix)


def log_text(data: bytes) -> None:
    """Any text is one short line that steers nothing."""
    line = printable(data.decode("utf-8", "surrogateescape"))
    assert line.isprintable()
    assert len(line) <= 200


def old_pickle(data: bytes) -> None:
    """A pickle gives values that our codec keeps, or a reason; the codec may refuse some floats."""
    try:
        value = read_pickle(data)
    except CannotKeep:
        return
    try:
        written = _CODEC.encode(value)
    except UnstorableValue:
        return
    assert _CODEC.encode(_CODEC.decode(written)) == written


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        cookie_header, request, token, record, owner_list, notes, codec, markup, proxies,
        log_text, old_pickle,
    )
}  # fmt: skip

_ID = "A" * 43
SEEDS: dict[str, list[bytes]] = {
    "cookie_header": [b"s=1; t=2", b's="a;s=b"', b"=s=1", b"s=;" * 9],
    "request": [f"session={_ID}.{_ID}".encode(), b"session=x; session=y"],
    "token": [f"{_ID}.{_ID}".encode(), b".", f"{new_id()}.".encode()],
    "record": [pack(Record({"a": b"1"}, b"notes", 1.0, 2.0, owner="bob"))],
    "owner_list": [bytes(_ENTRY_SIZE), b"\1" + bytes(_ENTRY_SIZE - 1)],
    "notes": [dump_notes(Notes(1.0, 1.0, 1.0)), dump_notes(Notes(1.0, 1.0, 1.0, idle=5.0)),
              dump_notes(Notes(1.0, 1.0, 1.0)) + b'{"idle":1%s}' % (b"0" * 400)],
    "markup": [b'{"~markup":"<b>"}', b"[" * 600 + b'{"~~markup":"x"}' + b"]" * 600],
    "codec": [b"null", b"[" * 150 + b"]" * 150, json.dumps({"a": [1, 2.5, "x"]}).encode(), b'{"$":1}', b"[" * 2_000],
    "proxies": [b"203.0.113.9, 10.0.0.1\nhttps\na.example:1\n443\n/app\n10.0.0.1",
                b'for="[::1]:80";proto=https;host="a;b", for=unknown'],
    "old_pickle": [pickled for kept in golden.kept() for pickled in kept.pickles],
    "log_text": ["\x1b[31m\u202e".encode(), b"\xff" * 300],
}  # fmt: skip
"""For each target what it is to begin with, and what was found by it once."""
