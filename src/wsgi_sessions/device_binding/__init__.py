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
from .binding import Binding, Standing, dump_binding, judge, load_binding
from .routes import Answer, BoundSessions, BoundState, RouteRequest
from .settings import DeviceBinding, check_cookie, check_with

__all__ = [
    "Answer",
    "Binder",
    "Binding",
    "BoundSessions",
    "BoundState",
    "DeviceBinding",
    "RouteRequest",
    "Standing",
    "check_cookie",
    "check_with",
    "dump_binding",
    "judge",
    "load_binding",
]
