"""What a contract needs to know of the store that it tests."""

from __future__ import annotations

from ...stores.base import Store


class StoreUnderTest:
    """The store that is tested, and how hard."""

    rounds: int = 100
    """How often two calls meet in each race. More rounds find rarer accidents, and take longer."""

    def make_store(self) -> Store:
        """Open the store that is to be tested; other tests don't use its data at the same time.

        It is called once per test, and again in the tests of races between processes, which are
        skipped if that doesn't open the same data.
        """
        raise NotImplementedError("a StoreContract needs make_store(self) -> Store")

    def make_broken_store(self) -> Store | None:
        """Open a store that can't answer: its server is down, its directory unmounted, its table
        dropped. None, where nothing can fail: memory is always there.

        Give one for every store that asks anything outside the process. Without it nobody tests
        that an outage isn't taken for "no such session".
        """
        return None
