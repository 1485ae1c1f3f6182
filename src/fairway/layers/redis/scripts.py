"""Scripts that run inside Redis, and so atomically: pushing to a queue, taking from it, following a group, presence.

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

# Presence. A holder is a process in one of its terms. Its entries under a subject are a text (`entries.py`), or, if the
# text is empty, a hash of their own. All times are in ms.

# KEYS: leases. ARGV: holder, duration, the name of its claim, how long everything is kept, and then its other keys.
# Returns 0 if its lease has ended.
RENEW = f"""{_NOW}
local till = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not till or tonumber(till) <= now or redis.call('EXISTS', ARGV[3]) == 1 then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
for index = 5, #ARGV do redis.call('PEXPIRE', ARGV[index], ARGV[4]) end
return 1
"""

# KEYS: leases. ARGV: holder, duration, how long the leases are kept.
BEGIN = f"""{_NOW}
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""

# KEYS: leases. ARGV: what the names of claims begin with, how long a claim lasts, how many holders at most.
# Returns holders whose lease has ended, and that nobody else sees to.
CLAIM = f"""{_NOW}
local claimed = {{}}
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  if #claimed >= tonumber(ARGV[3]) then break end
  if redis.call('SET', ARGV[1] .. holder, '1', 'NX', 'PX', ARGV[2]) then claimed[#claimed + 1] = holder end
end
return claimed
"""

# KEYS: leases. ARGV: what the names of entries begin with, the subject. Returns each holder with a lease that has
# entries under the subject, and the text of these.
STANDING = f"""{_NOW}
local found = {{}}
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local entries = redis.call('HGET', ARGV[1] .. holder, ARGV[2])
  if entries then
    found[#found + 1] = holder
    found[#found + 1] = entries
  end
end
return found
"""

# KEYS: leases. ARGV: what the names of entries begin with, the subject. Returns how many there are. Notes do not count.
COUNT = f"""{_NOW}
local count = 0
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local key = ARGV[1] .. holder
  local entries = redis.call('HGET', key, ARGV[2])
  if entries == '' then
    key = key .. ':' .. ARGV[2]
    count = count + redis.call('HLEN', key) - redis.call('HEXISTS', key, '')
  elseif entries then
    count = count + (tonumber(string.match(entries, '^%d+')) or 0)
  end
end
return count
"""

# KEYS: entries under one subject. ARGV: all entries of the holder, the subjects with a hash, the subject, ids.
# Returns 1 if no entries are left.
DEPART = """redis.call('HDEL', KEYS[1], unpack(ARGV, 4))
if redis.call('HLEN', KEYS[1]) > redis.call('HEXISTS', KEYS[1], '') then return 0 end
redis.call('UNLINK', KEYS[1])
redis.call('HDEL', ARGV[1], ARGV[3])
redis.call('SREM', ARGV[2], ARGV[3])
return 1
"""

# KEYS: subjects of a holder with a hash. ARGV: holder, leases, its claim, all its entries, how many subjects at once.
# Returns how many subjects are left.
SWEEP = f"""{_NOW}
local till = redis.call('ZSCORE', ARGV[2], ARGV[1])
if till and tonumber(till) > now then return 0 end
for _, subject in ipairs(redis.call('SPOP', KEYS[1], ARGV[5])) do
  redis.call('UNLINK', ARGV[4] .. ':' .. subject)
end
local left = redis.call('SCARD', KEYS[1])
if left == 0 then
  redis.call('UNLINK', ARGV[4], ARGV[3])
  redis.call('ZREM', ARGV[2], ARGV[1])
end
return left
"""

_SCRIPTS = (PUSH, POP, PUSH_BACK, FOLLOW, FOLLOWING, RENEW, BEGIN, CLAIM, STANDING, COUNT, SWEEP)
_DIGESTS = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in _SCRIPTS}


async def run(link: Caller, script: str, key: bytes, arguments: Sequence[bytes | int]) -> Reply:
    """Run a script over one key. Its text is sent only to a server that does not know it yet."""
    try:
        return await link.call(b"EVALSHA", _DIGESTS[script], 1, key, *arguments)
    except ReplyError as error:
        if error.code != "NOSCRIPT":
            raise
    return await link.call(b"EVAL", script, 1, key, *arguments)
