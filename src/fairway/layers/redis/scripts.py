"""Scripts that run inside Redis, and so atomically: pushing to a queue, taking from it, and following a group.

A queue is a list. Each item begins with its time of expiry: 13 digits, in milliseconds of Redis' clock. A push also
publishes an empty message under the queue's name, to wake the readers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fairway.layers.redis.link import Caller, Reply, ReplyError

# Somebody else may have put items into the list. One without a time counts as expired.
_STANDS = """local function stands(item, now)
  local till = tonumber(string.sub(item, 1, 13))
  return till and till >= now
end
"""
_NOW = _STANDS + "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)"

# KEYS: list. ARGV: wake-up channel, data, capacity, lifetime in ms. Returns the new length, or 0 if the queue is full.
PUSH = f"""{_NOW}
while true do
  local head = redis.call('LINDEX', KEYS[1], 0)
  if not head or stands(head, now) then break end
  redis.call('LPOP', KEYS[1])
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
local length = redis.call('RPUSH', KEYS[1], string.format('%013d', now + ARGV[4]) .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
redis.call('PUBLISH', ARGV[1], '')
return length
"""

# KEYS: list. ARGV: how many at most. Returns items that have not expired, oldest first.
POP = f"""{_NOW}
local taken = {{}}
while #taken < tonumber(ARGV[1]) do
  local item = redis.call('LPOP', KEYS[1])
  if not item then break end
  if stands(item, now) then taken[#taken + 1] = item end
end
return taken
"""

# KEYS: list. ARGV: wake-up channel, item, lifetime in ms. Puts an item that nobody took after all back in front.
PUSH_BACK = """redis.call('LPUSH', KEYS[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
redis.call('PUBLISH', ARGV[1], '')
"""

# KEYS: sorted set. ARGV: member, lifetime in ms.
FOLLOW = f"""{_NOW}
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
"""

# KEYS: sorted set. Returns the members that have not expired, each with the milliseconds until it does.
FOLLOWING = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local rows = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for index = 2, #rows, 2 do rows[index] = string.format('%d', rows[index] - now) end
return rows
"""

STAMP = 13
"""How many digits precede the data of an item."""

_SCRIPTS = (PUSH, POP, PUSH_BACK, FOLLOW, FOLLOWING)
_DIGESTS = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in _SCRIPTS}


async def run(link: Caller, script: str, key: bytes, arguments: Sequence[bytes | int]) -> Reply:
    """Run a script over one key. Its text is sent only to a server that does not know it yet."""
    try:
        return await link.call(b"EVALSHA", _DIGESTS[script], 1, key, *arguments)
    except ReplyError as error:
        if error.code != "NOSCRIPT":
            raise
    return await link.call(b"EVAL", script, 1, key, *arguments)
