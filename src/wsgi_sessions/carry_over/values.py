"""From an old record to a Found: what all systems have in common.

JSON and msgpack to plain values, whether our codec keeps them exactly, who the owner is, and which
fields are the old system's own. The check is all or nothing: one value that can't be kept leaves
the session behind.
"""

from __future__ import annotations

import importlib
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from markupsafe import Markup

from ..data.codec import JSONCodec, UnstorableValue
from ..errors import StoreError
from .records import MAX_BYTES
from .source import MAX_OWNER, CannotKeep, Found, kind_of

_codec = JSONCodec()
_SHOWN = 60
"""Characters of a field's name in a reason."""
_TOO_LONG = f"a record of more than {MAX_BYTES} bytes"


def as_fields(value: Any) -> dict[str, Any]:
    """The value, as the mapping that a session is.

    Raises:
        CannotKeep: it is not a dict with str keys.
    """
    kind = kind_of(value)
    if kind is not dict:
        raise CannotKeep("a record that isn't a mapping of fields")
    if any(type(name) is not str for name in value):
        raise CannotKeep("a field whose name isn't a str")
    fields: dict[str, Any] = value
    return fields


def read_json(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        CannotKeep: it can't be read.
    """
    if len(data) > MAX_BYTES:
        raise CannotKeep(_TOO_LONG)
    try:
        return json.loads(data)
    except RecursionError:
        raise CannotKeep("JSON that is nested too deep") from None
    except ValueError:
        raise CannotKeep("damaged JSON") from None


def read_msgpack(data: bytes) -> Any:
    """The value of a msgpack message.

    Raises:
        CannotKeep: it can't be read.
        StoreError: the library that reads it isn't installed.
    """
    try:
        msgspec: Any = importlib.import_module("msgspec")
    except ImportError:
        # The session may well be good: not being able to read it is not "no such session".
        raise StoreError(
            "the old sessions are msgpack, and msgspec, which reads it, isn't installed; run"
            " pip install 'wsgi-sessions[carry-over]'",
            operation="load",
        ) from None
    if len(data) > MAX_BYTES:
        raise CannotKeep(_TOO_LONG)
    try:
        return msgspec.msgpack.decode(data)
    except (ValueError, RecursionError):
        raise CannotKeep("damaged msgpack") from None


def unzip(data: bytes) -> bytes:
    """What zlib compressed, up to the size that a record may have.

    Raises:
        CannotKeep: it can't be read.
    """
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        raise CannotKeep("damaged compressed data") from None
    if len(plain) > MAX_BYTES:
        raise CannotKeep(_TOO_LONG)
    if not reader.eof:
        raise CannotKeep("damaged compressed data")
    return plain


def found(
    old_id: str,
    record: Mapping[str, Any],
    *,
    owner: str | None,
    own: frozenset[str] = frozenset(),
    created_at: float | None = None,
    used_at: float | None = None,
    expires_at: float | None = None,
    persistent: bool | None = None,
) -> Found | None:
    """A Found of a record's fields; None if nothing is in it.

    Args:
        old_id: see `Found`.
        record: all of the record's fields.
        owner: the name of the field that holds the user.
        own: the old system's own fields, which aren't carried over.
        created_at: see `Found`; so the others.
        used_at: see `Found`.
        expires_at: see `Found`.
        persistent: see `Found`.

    Raises:
        CannotKeep: not all of it can be kept.
    """
    fields = {name: value for name, value in record.items() if name not in own}
    if not fields:
        return None
    reason = why_not_kept(fields)
    if reason is not None:
        raise CannotKeep(reason)
    return Found(
        old_id.encode("utf-8"),
        fields,
        _owner(fields, owner),
        created_at,
        used_at,
        expires_at,
        persistent,
    )


def why_not_kept(fields: Mapping[str, Any]) -> str | None:
    """Which field's value can't be kept exactly, and why; None: all can."""
    for name, value in fields.items():
        try:
            _codec.encode(name)
            _codec.encode(_without_markup(value))
        except UnstorableValue as error:
            return f"the field {name[:_SHOWN]!r} can't be kept: {error.reason}"
        except RecursionError:
            return f"the field {name[:_SHOWN]!r} can't be kept: it is nested too deep"
    return None


def _without_markup(value: Any) -> Any:
    # Flask keeps Markup, and so does our codec for Flask; any other will refuse it.
    kind = kind_of(value)
    if kind is Markup:
        return str(value)
    if kind in (list, tuple):
        return [_without_markup(item) for item in value]
    if kind is dict:
        return {name: _without_markup(item) for name, item in value.items()}
    return value


def _owner(fields: Mapping[str, Any], name: str | None) -> str | None:
    """The user, as text; None: nobody is signed in."""
    user: Any = None if name is None else _field(fields, name)
    if user is None:
        return None
    text: Any = str(user) if type(user) in (int, UUID) else user
    if type(text) is not str or not 0 < len(text) <= MAX_OWNER:
        # Without its owner the session couldn't be revoked.
        raise CannotKeep(
            f"the field {name!r}, which holds the user, is not a str of 1 to {MAX_OWNER}"
            f" characters, an int or a UUID, but {type(user).__name__}"
        )
    return text


def _field(fields: Mapping[str, Any], name: str) -> Any:
    """A field, or, as in ``passport.user``, a field within one."""
    if name in fields:
        return fields[name]
    outer, dot, inner = name.partition(".")
    value: Any = fields.get(outer) if dot else None
    return _field(cast("dict[str, Any]", value), inner) if type(value) is dict else None


def number(value: object) -> float | None:
    """A time that an old record holds, if it is one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value) if math.isfinite(value) else None
    return None
