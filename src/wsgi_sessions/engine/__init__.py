"""A session's life: loading, deciding, writing. The only place that knows store, clock, randomness.

`decisions` says what to do, as a table; `loading`, `writing` and `transaction` do it against a
store that other requests use meanwhile; `committing` leads from one to the other;
`owners` keeps the lists that sessions are revoked by; `state` has the values that flow through.
"""

from .committing import Response
from .engine import Engine
from .settings import EngineSettings
from .state import SessionState

__all__ = ["Engine", "EngineSettings", "Response", "SessionState"]
