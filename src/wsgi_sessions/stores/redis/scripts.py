"""The Lua scripts of RedisStore: what a Redis server checks and changes in one step.

Each is for a single key, so that it also runs on a Cluster, and answers with a number: 1 for done,
or GONE, CONFLICT or DAMAGED. What a record looks like is ``layout``'s business; the two must agree.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

DONE: Final = 1
GONE: Final = 0
CONFLICT: Final = -1
DAMAGED: Final = -2


class Script(NamedTuple):
    """A script, and the name that a server keeps it under."""

    text: bytes
    sha: bytes


def _script(*parts: str) -> Script:
    text = "".join(parts).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


# Times are only compared here. They come and go as text, so that no number loses a digit. A hash
# without a head that can be read is damaged, and so is a key of another type: neither is touched.
_HEAD = """
local function number(text)
  if text == 'inf' then return math.huge end
  return tonumber(text or '')
end
local function look()
  local head = redis.pcall('HGET', KEYS[1], 'h')
  if type(head) == 'table' then
    if string.sub(head.err, 1, 9) == 'WRONGTYPE' then return -2 end
    return head
  end
  if head then
    local version, epoch, used, ends, length, at =
      string.match(head, '^(%d+) (%d+) (%S+) (%S+) ([%d-]+) ()')
    local used_at, ends_at = number(used), number(ends)
    if used_at and ends_at and used_at - used_at == 0 and ends_at == ends_at
      and at + (tonumber(length) or 0) <= #head + 1 then
      return 1, head, version, epoch, used, ends, length, at
    end
  end
  return -2 * redis.call('EXISTS', KEYS[1])
end
"""

# ARGV: milliseconds to live; name and value of each part.
INSERT = _script("""
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
for i = 2, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
""")

# ARGV: version and epoch asked for; time of use and end ('' for any, or to leave it as it is).
# That is all for a touch. Else there follow: the epoch ('' leaves it); the owner ('' leaves it, '-'
# is none, '=ada' is ada); the notes ('' leaves them, '=' comes before new ones); '-' or '+', a
# number, and so many parts that go, or that alone stay; name and value of each part to set.
#
# On a server whose memory is full, a script's first write may be refused, and the later ones never
# are. So it can't stop halfway, and a session can be made smaller.
#
# A key's time to live counts from the last use, whatever the server's clock says, and ends a minute
# after the record does, so that the core can still tell an expired session from an unknown one.
# 1e13 ms, 300 years, stands for no limit.
UPDATE = _script(
    _HEAD,
    """
local state, head, version, epoch, used, ends, length, at = look()
if state ~= 1 then return state end
if ARGV[2] ~= '' and ARGV[2] ~= epoch then return 0 end
local now = number(ARGV[3])
if now and number(ends) <= now then return 0 end
if ARGV[1] ~= '' and ARGV[1] ~= version then return -1 end
local timed = ARGV[3] ~= '' or ARGV[4] ~= ''
if #ARGV == 4 and not timed then return 1 end
if ARGV[3] ~= '' then used = ARGV[3] end
if ARGV[4] ~= '' then ends = ARGV[4] end
local rest = string.sub(head, at)
local set = #ARGV + 1
if #ARGV > 4 then
  version = string.format('%.0f', version + 1)
  if ARGV[5] ~= '' then epoch = ARGV[5] end
  local middle = tonumber(length) or 0
  local owner, notes = string.sub(rest, 1, middle), string.sub(rest, middle + 1)
  if ARGV[6] ~= '' then
    owner = string.sub(ARGV[6], 2)
    if ARGV[6] == '-' then length = '-' else length = #owner end
  end
  if ARGV[7] ~= '' then notes = string.sub(ARGV[7], 2) end
  rest = owner .. notes
  set = 10 + ARGV[9]
  local gone, stays = {}, {h = true}
  if ARGV[8] == '+' then
    for i = 10, set - 1 do stays[ARGV[i]] = true end
    for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
      if not stays[name] then gone[#gone + 1] = name end
    end
  else
    for i = 10, set - 1 do gone[i - 9] = ARGV[i] end
  end
  for i = 1, #gone, 1000 do
    redis.call('HDEL', KEYS[1], unpack(gone, i, math.min(i + 999, #gone)))
  end
end
head = version .. ' ' .. epoch .. ' ' .. used .. ' ' .. ends .. ' ' .. length .. ' ' .. rest
redis.call('HSET', KEYS[1], 'h', head, unpack(ARGV, set, math.min(set + 999, #ARGV)))
for i = set + 1000, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if timed then
  local ms = math.max(math.min((number(ends) - number(used)) * 1000 + 60000, 1e13), 1)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ms))
end
return 1
""",
)

# ARGV: the version asked for ('' for any).
DELETE = _script(
    _HEAD,
    """
local state, _, version = look()
if state ~= 1 then return state end
if ARGV[1] ~= '' and ARGV[1] ~= version then return -1 end
redis.call('UNLINK', KEYS[1])
return 1
""",
)

# ARGV: the time.
DELETE_EXPIRED = _script(
    _HEAD,
    """
local state, _, _, _, _, ends = look()
if state ~= 1 or number(ends) > number(ARGV[1]) then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
""",
)
