"""The contract of stores, as tests: one room for each kind of promise.

`StoreContract` is all of them. What depends on the client library or the driver alone is also
`StoreClientContract`, for the second and third client of a store that passed in full.
"""

from .changes import ChangePromises
from .client import StoreClientContract
from .expiry import ExpiryPromises
from .interruptions import InterruptedCalls
from .processes import ProcessRaces
from .records import RecordPromises
from .threads import ThreadRaces

__all__ = ["StoreClientContract", "StoreContract"]


class StoreContract(
    StoreClientContract,
    RecordPromises,
    ChangePromises,
    ExpiryPromises,
    InterruptedCalls,
    ThreadRaces,
    ProcessRaces,
):
    """Every promise of `Store`, as tests. For a store of your own, derive a class ``TestMyStore``
    that has ``make_store`` and, unless nothing can fail, ``make_broken_store``.

    The times used are around the real time, because a store may have an expiry of its own that
    goes by that.
    """
