"""What a contract needs to know of the store that it tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from unittest import SkipTest

from ...stores.base import Store
from ..races import forked
from .material import a_key, a_record


class StoreUnderTest:
    """The store that is tested, and how hard."""

    rounds: int = 100
    """How often two calls meet in each race. More rounds find rarer accidents, and take longer."""

    def make_store(self) -> Store:
        """Open the store that is to be tested; other tests don't use its data at the same time.

        It is called once per test, and again in the tests of what several store objects, or several
        processes, do with the same data. These are skipped if it opens other data each time.
        """
        raise NotImplementedError("a StoreContract needs make_store(self) -> Store")

    def make_broken_store(self) -> Store | None:
        """Open a store that can't answer: its server is down, its directory unmounted, its table
        dropped. None, where nothing can fail: memory is always there.

        Give one for every store that asks anything outside the process. Without it nobody tests
        that an outage isn't taken for "no such session".
        """
        return None

    def _broken_store(self) -> Store:
        store = self.make_broken_store()
        if store is None:
            raise SkipTest("make_broken_store() gives None, so nobody knows what an outage does")
        return store

    def _two_stores(self) -> tuple[Store, Store]:
        """Two store objects over the same data, or a skip if there is no such thing."""
        store, key = self.make_store(), a_key()
        store.insert(key, a_record())
        another = self.make_store()
        if another.load(key) is None:
            raise SkipTest("make_store() opens other data each time")
        return store, another

    def _shared_session(self, fields: Mapping[str, bytes], expires_at: float | None = None) -> str:
        """A session that another process made, or a skip if this one can't see it."""
        key = a_key()
        if not hasattr(os, "fork"):
            raise SkipTest("this platform has no fork")
        forked(lambda: self.make_store().insert(key, a_record(fields, expires_at=expires_at)))
        if self.make_store().load(key) is None:
            raise SkipTest("make_store() opens other data in another process")
        return key
