"""The Lua scripts of RedisStore: what a Redis server checks and changes in one step.

Each is for one key, so that it works on a Cluster, but for REPLACE, which is for a single server.
A script that reads a record answers 1 for done, or GONE, CONFLICT, DAMAGED or TAKEN.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

GONE, CONFLICT, DAMAGED, TAKEN = 0, -1, -2, -3

# The server's own expiry only reclaims space. It is relative, so that neither a clock that is off
# nor one that a test sets matters, and comes a minute late, so that the core can still tell an
# expired session from an unknown one. 1e13 ms, 300 years, stands for no limit: no key lives for
# ever. Times and versions are compared here and computed elsewhere: a number passes through as
# text, and loses nothing.
_COMMON = """
local function number(text)
  if text == 'inf' then return math.huge end
  return tonumber(text or '')
end
local function expire(key, seconds)
  local ms = math.max(math.min(seconds * 1000, 1e13), 1)
  redis.call('PEXPIRE', key, string.format('%.0f', ms))
end
local function each(command, key, first, last)
  for i = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 999, last)))
  end
end
"""
_RECORD = (
    _COMMON
    + """
local function look(key)
  local found = redis.pcall('HMGET', key, 'v', 'u', 'e', 'n')
  if found.err then
    if string.sub(found.err, 1, 9) == 'WRONGTYPE' then return -2 end
    return found
  end
  local used, ends = number(found[2]), number(found[3])
  if found[1] and found[4] and used and ends and used - used == 0 and ends == ends then
    return 1, found[1], used, ends
  end
  if redis.call('EXISTS', key) == 0 then return 0 end
  return -2
end
local function match(key, version)
  local state, found = look(key)
  if state == 1 and version ~= '' and version ~= found then return -1 end
  return state
end
local function create(key, at)
  each('HSET', key, at + 2, #ARGV)
  expire(key, number(ARGV[at + 1]) - number(ARGV[at]) + 60)
  return 1
end
"""
)
_OWNER = (
    _COMMON
    + """
local function summary(key)
  local text = redis.call('HGET', key, 'm')
  if not text then return 0, 0, 0 end
  local generation, last, latest = string.match(text, '^(%d+) (%S+) (%S+)$')
  if not (number(last) and number(latest)) then error('the owner index is damaged') end
  return tonumber(generation), number(last), number(latest)
end
local function keep(key, now, generation, last, latest)
  redis.call('HSET', key, 'm', string.format('%.0f %.17g %.17g', generation, last, latest))
  expire(key, math.max(latest - now, 0) + 86400)
end
"""
)


class Script(NamedTuple):
    """A script, and the name that a server keeps it under."""

    text: bytes
    sha: bytes


def _script(*parts: str) -> Script:
    text = "".join(parts).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


INSERT = _script(
    _RECORD,
    """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return create(KEYS[1], 1)
""",
)
# The version goes up first: of what this script does, that alone can fail, and then nothing is
# changed yet.
UPDATE = _script(
    _RECORD,
    """
local state, version, used, ends = look(KEYS[1])
if state ~= 1 then return state end
local now = number(ARGV[2])
if now and ends <= now then return 0 end
if ARGV[1] ~= '' and ARGV[1] ~= version then return -1 end
if ARGV[4] == '1' then redis.call('HINCRBY', KEYS[1], 'v', 1) end
local set = 6 + ARGV[5]
each('HDEL', KEYS[1], 6, set - 1)
each('HSET', KEYS[1], set, #ARGV)
expire(KEYS[1], (number(ARGV[3]) or ends) - (now or used) + 60)
return 1
""",
)
REPLACE = _script(
    _RECORD,
    """
local state = match(KEYS[1], ARGV[1])
if state ~= 1 then return state end
if redis.call('EXISTS', KEYS[2]) == 1 then return -3 end
create(KEYS[2], 2)
redis.call('UNLINK', KEYS[1])
return 1
""",
)
DELETE = _script(
    _RECORD,
    """
local state = match(KEYS[1], ARGV[1])
if state == 1 then redis.call('UNLINK', KEYS[1]) end
return state
""",
)
DELETE_EXPIRED = _script(
    _RECORD,
    """
local state, _, _, ends = look(KEYS[1])
if state ~= 1 or ends > number(ARGV[1]) then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
""",
)
ADD_OWNED = _script(
    _OWNER,
    """
local generation, last, latest = summary(KEYS[1])
local now, ends = number(ARGV[2]), number(ARGV[3])
local added = now
if added <= last then added = last + 1e-6 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.17g %s %.0f', added, ARGV[3], generation))
keep(KEYS[1], now, generation, added, math.max(latest, ends))
return generation
""",
)
REMOVE_OWNED = _script(
    _OWNER,
    """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local generation, last, latest = summary(KEYS[1])
each('HDEL', KEYS[1], 2, #ARGV)
if redis.call('HLEN', KEYS[1]) <= 1 then latest = 0 end
keep(KEYS[1], number(ARGV[1]), generation, last, latest)
return 0
""",
)
PRUNE_OWNED = _script(
    _OWNER,
    """
local entries, now, pruned, latest = redis.call('HGETALL', KEYS[1]), number(ARGV[1]), false, 0
local generation, last = summary(KEYS[1])
for i = 1, #entries, 2 do
  local ends = number(string.match(entries[i + 1], '^%S+ (%S+) %d+$'))
  if entries[i] == 'm' then
    ends = 0
  elseif ends and ends <= now then
    redis.call('HDEL', KEYS[1], entries[i])
    pruned = true
  end
  latest = math.max(latest, ends or math.huge)
end
if pruned then keep(KEYS[1], now, generation, last, latest) end
return 0
""",
)
NEXT_GENERATION = _script(
    _OWNER,
    """
local generation, last, latest = summary(KEYS[1])
keep(KEYS[1], number(ARGV[1]), generation + 1, last, latest)
return generation + 1
""",
)
