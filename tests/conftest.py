"""For all tests."""

from __future__ import annotations

import pytest

# The contract of stores lives in the package, where pytest doesn't rewrite asserts by itself.
pytest.register_assert_rewrite("wsgi_sessions.testing")
