"""Sessions in Redis or Valkey: one hash per session, one command or script per call.

- ``store``: `RedisStore`, the store's nine methods.
- ``layout``: what a record looks like as a hash, and what the scripts are given.
- ``scripts``: the Lua scripts that check and change in one step.
- ``connection``: commands over the connections of a client, single, Sentinel or Cluster.
- ``settings``: the store's own options.
- ``client``: which clients can be used, and a client from a URL.
- ``failures``: what went wrong, by the names of exceptions.

Neither redis-py nor valkey-py is loaded until `RedisStore.from_url` needs one.
"""

from .store import RedisStore

__all__ = ["RedisStore"]
