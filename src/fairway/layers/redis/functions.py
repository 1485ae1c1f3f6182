"""What Redis does with histories, each in one step: functions from version 7 on, and scripts before that.

A history is a hash and a list. The hash has its epoch (`e`), its newest offset (`n`), the offset at which the epoch
began (`b`), how much is kept (`k`: messages and milliseconds), and until when the times of expiry are good enough
(`x`). One that has had no message has no more than its epoch. The list has the messages, the newest last, each behind
its time: 13 digits, in milliseconds of Redis' clock. Offsets have no holes, so that of a message follows from its
place. Both keys expire. A list is trimmed, and times of expiry are renewed, only now and then, so it may hold more than
is kept. Reading leaves that out.

Appending is what happens most, and each step in it counts. So what has to be done once for several messages is done
once, and nothing is trimmed or renewed that need not be. (A stream instead of the list would cost as much time, and
4 KB of memory for its first message.)

An epoch begins with a *mark* of the server that began it: eight digits and letters made of its `run_id`, and three for
its *reign*. A server that has not begun the epoch, because it took over or was restarted, may lack messages that were
sent before. So it begins another epoch. It keeps the messages that it has. Reigns are counted in the database, from one
server to the next: one that was replaced, and takes over again, may have lost the end of what it had itself. They only
grow. So two connections that know different reigns, because somebody has emptied the database meanwhile, agree on the
later one.

The library of functions is named by the version of the keys (`names.py`), and by a digest of what is in it. So
processes of different releases can share a server, and each calls its own functions.
"""

from __future__ import annotations

import hashlib
import os
import time
from asyncio import Future
from collections.abc import Sequence
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from fairway.layers.histories import KEY_LIFE, LIFE
from fairway.layers.redis.link import Caller, Link, Reply, ReplyError
from fairway.layers.redis.names import HISTORY_VERSION
from fairway.logs import get_logger

logger = get_logger("fairway.layers")

BARE_LIFE: Final = 900.0
"""Seconds for which the epoch of a history is kept that has had no message, after somebody has asked for it: perhaps a
client that makes up names. Processes with members ask from time to time.
"""

_LUA: Final = (
    f"local LIFE, BARE_LIFE, KEY_LIFE = {round(LIFE * 1000)}, {round(BARE_LIFE * 1000)}, {round(KEY_LIFE * 1000)}"
    + """
local function now_of()
  local t = redis.call('TIME')
  return t[1] .. string.sub(1000000 + t[2], 2, 4)
end

-- The epoch of a history whose epoch was this one, or false. If that is not of the server of the fresh one, which is
-- this one, and of its reign or a later one, the fresh one begins.
local function epoch_of(meta, list, known, fresh)
  if known and string.sub(known, 1, 8) == string.sub(fresh, 1, 8)
    and string.sub(known, 9, 11) >= string.sub(fresh, 9, 11) then return known end
  redis.call('HSET', meta, 'e', fresh, 'b', redis.call('HGET', meta, 'n') or '0')
  if not known then redis.call('UNLINK', list) end
  return fresh
end

-- The epoch of a history that somebody asks for. `known` are its epoch and newest offset.
local function asked_for(meta, list, known, fresh)
  local epoch = epoch_of(meta, list, known[1], fresh)
  if not known[2] then redis.call('PEXPIRE', meta, BARE_LIFE) end
  return epoch
end

-- Append the message with this number. `call` is what is known in this call: the time, and the state of histories.
local function append_one(keys, args, number, call)
  local meta, list, place = keys[2 * number], keys[2 * number + 1], 5 * number - 3
  local data, size, kept, key = args[place + 1], tonumber(args[place + 2]), args[place + 3], args[place + 4]
  if key ~= '' then
    local first = redis.call('GET', key)
    if first then return '=' .. first end
  end
  local now, state = call.now, call[meta]
  if not state then
    state = redis.call('HMGET', meta, 'e', 'k', 'x')
    if state[1] then state[1] = epoch_of(meta, list, state[1], args[1] .. number) end
    call[meta] = state
  end
  local is_new = not state[1]
  local offset = redis.call('HINCRBY', meta, 'n', 1)
  local length = redis.call('RPUSH', list, now .. data)
  if is_new and length > 1 then
    redis.call('LTRIM', list, -1, -1)
  elseif length > size + math.min(size, 100) then
    redis.call('LTRIM', list, -size, -1)
  end
  if is_new or state[2] ~= kept or now > state[3] then
    local ms = tonumber(string.match(kept, '%d+$'))
    state[1], state[2], state[3] = state[1] or args[1] .. number, kept, string.format('%d', now + ms / 2)
    if is_new then
      redis.call('HSET', meta, 'e', state[1], 'b', offset - 1, 'k', kept, 'x', state[3])
    else
      redis.call('HSET', meta, 'k', kept, 'x', state[3])
    end
    redis.call('PEXPIRE', meta, string.format('%d', math.max(LIFE, 2 * ms)))
    redis.call('PEXPIRE', list, string.format('%d', 2 * ms))
    call.renews = true
  end
  local position = state[1] .. '-' .. offset
  redis.call('PUBLISH', args[place], '\\0' .. position .. ' ' .. offset - 1 .. ' ' .. now .. '\\n' .. data)
  if key ~= '' then redis.call('SET', key, position, 'PX', KEY_LIFE) end
  return position
end

-- keys: counter of changes, and hash and list of each message
-- args: fresh epoch; of each message: subject's channel, data, messages, messages and ms, what remembers its key or ''
-- Returns the position of each, or an error. If it is that of an earlier message with the key, '=' comes first.
local function append(keys, args)
  local call, answer = {now = now_of()}, {}
  for number = 1, (#keys - 1) / 2 do
    local done, result = pcall(append_one, keys, args, number, call)
    answer[number] = (done or type(result) == 'table') and result or {err = result}
  end
  redis.call('INCRBY', keys[1], #answer)
  if call.renews then redis.call('PEXPIRE', keys[1], LIFE) end
  return answer
end

-- keys: hash, list
-- args: fresh epoch, what to read after ('all', 'time' or 'position'), epoch or '', ms or offset,
--   messages, bytes
-- Returns epoch, newest offset, where the epoch began, 1 if complete; then each offset, and the time with the data.
local function read(keys, args)
  local meta, list, kind, after = keys[1], keys[2], args[2], tonumber(args[4])
  local known = redis.call('HMGET', meta, 'e', 'n', 'k', 'b')
  local epoch = asked_for(meta, list, known, args[1])
  local top, size, ms = tonumber(known[2] or 0), string.match(known[3] or '0 0', '(%d+) (%d+)')
  local oldest = now_of() - ms
  local is_known = kind == 'position' and args[3] == epoch and after <= top
  local complete = kind == 'all' or (is_known and after == top) or top == 0
  local has_earlier = false
  local answer = {epoch, top, epoch == known[1] and tonumber(known[4] or 0) or top, 0}
  if kind == 'position' and not is_known then complete = false end
  local count, bytes, limit, most = 0, 0, tonumber(args[5]), tonumber(args[6])
  local place = -math.min(is_known and top - after or top, tonumber(size), redis.call('LLEN', list))
  local chunk = 16
  while place < 0 do
    local rows = redis.call('LRANGE', list, place, math.min(place + chunk, 0) - 1)
    for index, row in ipairs(rows) do
      local offset, at = top + place + index, tonumber(string.sub(row, 1, 13)) or 0
      if at > oldest then
        if kind == 'time' and (at <= after or (count == 0 and offset == 1)) then has_earlier = true end
        if kind ~= 'time' or at > after then
          if is_known and count == 0 then complete = offset == after + 1 end
          if count > 0 and (count >= limit or bytes + #row > most) then place = 0 break end
          count, bytes = count + 1, bytes + #row
          answer[#answer + 1] = string.format('%d', offset)
          answer[#answer + 1] = row
        end
      end
    end
    place = place + chunk
    if bytes < 8192 * count or count == 0 then chunk = 128 else chunk = 16 end
  end
  if complete or has_earlier then answer[4] = 1 end
  return answer
end

-- keys: hash and list of each subject. args: fresh epoch. Returns epoch and offset of each.
local function tops(keys, args)
  local answer = {}
  for index = 1, #keys, 2 do
    local known = redis.call('HMGET', keys[index], 'e', 'n')
    answer[index] = asked_for(keys[index], keys[index + 1], known, args[1] .. index)
    answer[index + 1] = tonumber(known[2] or 0)
  end
  return answer
end

-- keys: who reigns. args: this server. Returns the number of its reign.
local function reign(keys, args)
  local known, number = redis.call('GET', keys[1]), 0
  if known then number = tonumber(string.sub(known, 10)) end
  if known and string.sub(known, 1, 8) ~= args[1] then number = number + 1 end
  redis.call('SET', keys[1], args[1] .. ' ' .. number, 'PX', 63072000000)
  return number
end
"""
)

Arguments: TypeAlias = Sequence[bytes | str | int]


def _digest(code: str) -> str:
    return hashlib.sha1(code.encode(), usedforsecurity=False).hexdigest()


APPEND, READ, TOPS, REIGN = "append", "read", "tops", "reign"
_NAMES: Final = (APPEND, READ, TOPS, REIGN)
LIBRARY: Final = f"fairway_streams_{HISTORY_VERSION}_{_digest(_LUA)[:8]}"
_SCRIPTS: Final = {name: f"{_LUA}\nreturn {name}(KEYS, ARGV)" for name in _NAMES}
_DIGESTS: Final = {name: _digest(code) for name, code in _SCRIPTS.items()}
_FUNCTIONS: Final = f"#!lua name={LIBRARY}\n{_LUA}" + "".join(
    f"redis.register_function('{LIBRARY}_{name}', {name})\n" for name in _NAMES
)

NO_SERVER: Final = "00000000"
"""Every server, where servers cannot be told apart or need not be."""

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

_QUIET = 60.0
_said_at = -_QUIET


class _Server:
    """What is known of the server behind one connection."""

    __slots__ = ("has_functions", "mark")

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.has_functions = True  # until it says that it has none

    def arguments(self, keys: Sequence[bytes], arguments: Arguments) -> Arguments:
        """Those of a call, with a fresh epoch."""
        return len(keys), *keys, self.mark + os.urandom(5).hex(), *arguments


class Functions:
    """Calls the functions over connections. With `trusts`, a server that takes over continues the epochs.

    `reign` is the key that says which server reigns.
    """

    def __init__(self, trusts: bool, reign: bytes) -> None:
        self._trusts = trusts
        self._reign = reign
        self._servers: WeakKeyDictionary[Caller, _Server] = WeakKeyDictionary()

    async def mark_of(self, link: Caller) -> str:
        """The mark of the server at the other end."""
        return (await self._server(link)).mark

    async def call(self, link: Caller, name: str, keys: Sequence[bytes], *arguments: bytes | str | int) -> Reply:
        """Call a function with a fresh epoch of the server as its first argument."""
        server = await self._server(link)
        return await _call(link, server, name, server.arguments(keys, arguments))

    def begin(self, link: Link, name: str, keys: Sequence[bytes], *arguments: bytes | str | int) -> Future[Reply]:
        """Send what `call` sends to a server that has the function. If it `is_unknown` there, `call` helps.

        The server has to be known, from `mark_of`.
        """
        server = self._servers[link]
        rest = server.arguments(keys, arguments)
        if server.has_functions:
            return link.begin(b"FCALL", f"{LIBRARY}_{name}", *rest)
        return link.begin(b"EVALSHA", _DIGESTS[name], *rest)

    async def _server(self, link: Caller) -> _Server:
        server = self._servers.get(link)
        if server is None:
            name = NO_SERVER if self._trusts else await _name(link)
            server = _Server(f"{name}000")
            if name != NO_SERVER:
                number = await _call(link, server, REIGN, (1, self._reign, name))
                server.mark = name + _three_digits(number)
            self._servers[link] = server
        return server


async def _call(link: Caller, server: _Server, name: str, rest: Arguments) -> Reply:
    if server.has_functions:
        try:
            return await _call_function(link, name, rest)
        except ReplyError as error:
            if not _has_no_functions(error):
                raise
            server.has_functions = False
    try:
        return await link.call(b"EVALSHA", _DIGESTS[name], *rest)
    except ReplyError as error:
        if error.code != "NOSCRIPT":
            raise
    return await link.call(b"EVAL", _SCRIPTS[name], *rest)


def _three_digits(number: int) -> str:
    """The number in a form that sorts like it, up to 46,655."""
    number = min(number, 36**3 - 1)
    return _DIGITS[number // 1296] + _DIGITS[number // 36 % 36] + _DIGITS[number % 36]


async def _call_function(link: Caller, name: str, arguments: Sequence[bytes | str | int]) -> Reply:
    function = f"{LIBRARY}_{name}"
    try:
        return await link.call(b"FCALL", function, *arguments)
    except ReplyError as error:
        if "Function not found" not in str(error):
            raise
    await link.call(b"FUNCTION", b"LOAD", b"REPLACE", _FUNCTIONS)
    return await link.call(b"FCALL", function, *arguments)


def is_unknown(error: ReplyError) -> bool:
    """Whether the server has done nothing, because it does not have the function, or the script, or knows neither."""
    return error.code == "NOSCRIPT" or "Function not found" in str(error) or _has_no_functions(error)


def _has_no_functions(error: ReplyError) -> bool:
    return error.code == "NOPERM" or "unknown command" in str(error).lower()


async def _name(link: Caller) -> str:
    """Eight digits and letters for the server at the other end."""
    global _said_at
    try:
        answer: bytes = await link.call(b"INFO", b"server")
    except ReplyError as error:
        if time.monotonic() - _said_at > _QUIET:
            _said_at = time.monotonic()
            logger.warning(
                "Redis does not say which server it is (%s). If it fails over and loses messages, clients are not "
                "told: allow INFO, or set trust_failover to say that this is known",
                error,
            )
        return NO_SERVER
    run_id = next((line[7:] for line in answer.splitlines() if line.startswith(b"run_id:")), b"")
    return hashlib.sha256(run_id).hexdigest()[:8] if run_id else NO_SERVER
