"""Sessions bound to a device: Device Bound Session Credentials, as browsers speak them.

Decides and verifies; it never loads or stores anything itself. The engine gives it what it knows
of a session (`BoundSessions`), and the middleware turns its answers into WSGI.

    settings    DeviceBinding: the options, and what they can't be combined with
    seals       handle and time, signed: challenges and the second cookie's value
    keys        a device's public key: reading, checking, keeping and verifying
    proofs      the JWT that a browser signs
    protocol    the headers and the JSON that the server sends
    binding     what a session's notes keep, and what a missing proof means
    binder      all of it for one cookie, built once
    routes      answering the browser's registration and refresh
"""

from .binder import Binder
from .binding import (
    Binding,
    DeviceNotes,
    dump_device_notes,
    judge,
    load_device_notes,
    offer_is_due,
)
from .routes import (
    Answer,
    BoundSessions,
    BoundState,
    RouteRequest,
    answer,
    read_request,
    route_of,
)
from .settings import DeviceBinding, check_cookie, check_with

__all__ = [
    "Answer",
    "Binder",
    "Binding",
    "BoundSessions",
    "BoundState",
    "DeviceBinding",
    "DeviceNotes",
    "RouteRequest",
    "answer",
    "check_cookie",
    "check_with",
    "dump_device_notes",
    "judge",
    "load_device_notes",
    "offer_is_due",
    "read_request",
    "route_of",
]
