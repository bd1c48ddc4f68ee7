"""The watch over all tests does see a secret that is logged."""

from __future__ import annotations

import logging

import pytest

from acts import put, token
from plugins.secrets_in_logs import Watch
from wsgi import SECRET, Site


@pytest.mark.parametrize("what", ["token", "id", "signature", "secret key"])
def test_a_secret_in_a_log_is_seen(what: str, _watch: Watch) -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))
    session_id, _, signature = token(browser).partition(".")
    secret = {"token": token(browser), "id": session_id, "signature": signature,
              "secret key": SECRET}[what]  # fmt: skip

    logging.getLogger("wsgi_sessions").debug("careless: %s", secret)

    assert secret in _watch.leaked()
    _watch.begin()  # so that the watch over this very test is content
