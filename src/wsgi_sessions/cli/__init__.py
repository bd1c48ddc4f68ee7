"""The command line: looking after a store from a shell.

`parser` reads the command line, `commands` does what it says, `opening` finds the store, `handles`
the session that is meant, `printing` and `progress` show what came out, and `doctor` checks a store
for what goes wrong in practice. It never prints a session ID, because no store knows one, and
prints values only when asked to. Looking changes nothing and creates nothing.
"""

from .parser import DONE, FAILED, USAGE, main

__all__ = ["DONE", "FAILED", "USAGE", "main"]
