"""One connection to Redis: what it writes, and what it makes of every answer, whole and byte by byte."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.layers.redis.doubles import acknowledgement, message, new_link
from tests.fairway.loops import passes

from fairway.layers.backplane import Refused, Unavailable
from fairway.layers.link import WINDOW_BYTES, WINDOW_MESSAGES
from fairway.layers.redis.link import ReplyError, greet, judged


async def test_all_that_is_posted_in_a_pass_is_one_write() -> None:
    link, transport, _ = new_link()
    for data in (b"1", b"2"):
        assert link.post(b"g", data) is None
    await passes()

    assert transport.written == [
        b"*3\r\n$7\r\nPUBLISH\r\n$1\r\ng\r\n$1\r\n1\r\n*3\r\n$7\r\nPUBLISH\r\n$1\r\ng\r\n$1\r\n2\r\n"
    ]


STREAM = (
    b":1\r\n" + message(b"g", b"a\r\nb") + acknowledgement(b"subscribe", b"one", 1) + message(b"g", b"")
    + acknowledgement(b"subscribe", b"two", 2) + b"_\r\n" + message(b"h", b"c") + b"*2\r\n:1\r\n$1\r\nx\r\n"
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_answers_and_messages_are_told_apart_however_they_are_cut(size: int) -> None:
    link, _, owner = new_link()
    link.post(b"g", b"")
    subscribing = asyncio.ensure_future(link.acknowledged(b"SUBSCRIBE", [b"one", b"two"]))
    await passes()
    nothing, several = asyncio.ensure_future(link.call("GET", "a")), asyncio.ensure_future(link.call("MGET", "a"))
    await passes()
    for begin in range(0, len(STREAM), size):
        link.data_received(STREAM[begin : begin + size])

    await subscribing
    assert await nothing is None
    assert await several == [1, b"x"]
    assert owner.messages == [(b"g", b"a\r\nb"), (b"g", b""), (b"h", b"c")]


async def test_an_error_answers_what_it_stands_for() -> None:
    link, _, owner = new_link()
    link.post(b"g", b"")
    await passes()
    subscribing = asyncio.ensure_future(link.acknowledged(b"SUBSCRIBE", [b"one", b"two"]))
    await passes()
    calling = asyncio.ensure_future(link.call("GET", "a"))
    await passes()
    link.data_received(b"-OOM no memory\r\n-NOPERM no channel\r\n-ERR wrong\r\n")

    with pytest.raises(ReplyError, match="NOPERM no channel"):
        await subscribing
    with pytest.raises(ReplyError, match="ERR wrong"):
        await calling
    assert [error.code for error in owner.errors] == ["OOM"]


async def test_messages_nobody_took_are_counted() -> None:
    link, _, owner = new_link()
    link.post(b"g", b"")
    link.post(b"g", b"")
    link.data_received(b":0\r\n:2\r\n")

    assert owner.statistics.unheard == 1


async def test_who_posts_beyond_the_window_waits_until_half_of_it_is_confirmed() -> None:
    link, _, _ = new_link()
    posted = [link.post(b"g", b"") for _ in range(WINDOW_MESSAGES)]
    assert [one for one in posted if one is not None] == posted[-1:]
    last = posted[-1]
    assert last is not None
    waiting = asyncio.ensure_future(last)
    await passes()
    link.data_received(b":1\r\n" * (WINDOW_MESSAGES // 2 - 1))
    await passes()
    assert not waiting.done()
    link.data_received(b":1\r\n")
    await waiting

    large = link.post(b"g", b"x" * WINDOW_BYTES)
    assert large is not None
    waiting = asyncio.ensure_future(large)
    await passes()
    link.data_received(b":1\r\n" * (WINDOW_MESSAGES // 2 + 1))
    await waiting


async def test_a_link_that_is_lost_fails_all_who_wait() -> None:
    link, _, owner = new_link()
    room = [link.post(b"g", b"") for _ in range(WINDOW_MESSAGES)][-1]
    assert room is not None
    those = [
        asyncio.ensure_future(room),
        asyncio.ensure_future(link.call("PING")),
        asyncio.ensure_future(link.acknowledged(b"SUBSCRIBE", [b"one"])),
    ]
    await passes()
    link.connection_lost(OSError("cable"))

    for result in await asyncio.gather(*those, return_exceptions=True):
        assert isinstance(result, Unavailable)
        assert str(result) == "the connection to Redis was lost: cable"
    assert owner.statistics.uncertain == WINDOW_MESSAGES
    assert [str(loss) for loss in owner.losses] == ["cable"]
    with pytest.raises(Unavailable, match="cable"):
        await link.call("PING")


async def test_reading_pauses_while_a_message_is_handled_and_keeps_the_order() -> None:
    link, transport, owner = new_link()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    owner.gate = lambda: None if done.done() else done
    pinging = asyncio.ensure_future(link.call("PING"))
    await passes()
    link.data_received(message(b"g", b"1") + message(b"g", b"2") + b"+PONG\r\n")
    await passes()
    assert (owner.messages, transport.is_reading, link.is_paused, pinging.done()) == (
        [(b"g", b"1")],
        False,
        True,
        False,
    )

    done.set_result(None)
    assert await pinging == b"PONG"
    assert (owner.messages, transport.is_reading, link.is_paused) == ([(b"g", b"1"), (b"g", b"2")], True, False)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", b"+PONG\r\n", b":1\r\n"], ids=["junk", "text", "number"]
)
async def test_what_was_not_asked_ends_the_connection(data: bytes) -> None:
    link, transport, _ = new_link()
    link.data_received(data)

    assert transport.is_aborted


async def test_a_push_that_nobody_knows_is_passed_over() -> None:
    link, transport, owner = new_link()
    link.data_received(b">2\r\n$10\r\ninvalidate\r\n_\r\n" + message(b"g", b"1"))

    assert owner.messages == [(b"g", b"1")]
    assert not transport.is_aborted


async def test_only_what_names_the_command_acknowledges_it() -> None:
    link, transport, _ = new_link()
    subscribing = asyncio.ensure_future(link.acknowledged(b"SUBSCRIBE", [b"one"]))
    await passes()
    link.data_received(b">2\r\n$10\r\ninvalidate\r\n_\r\n" + acknowledgement(b"unsubscribe", b"one", 0))
    await passes()
    assert not subscribing.done()
    link.data_received(acknowledgement(b"subscribe", b"one", 1))
    await subscribing

    subscribing = asyncio.ensure_future(link.acknowledged(b"SUBSCRIBE", [b"one"]))
    await passes()
    link.data_received(b"+OK\r\n")
    assert transport.is_aborted
    link.connection_lost(None)
    with pytest.raises(Unavailable, match="Redis answered what was not asked: b'OK'"):
        await subscribing


async def test_the_greeting_speaks_resp3_logs_in_and_chooses_the_database() -> None:
    link, transport, _ = new_link()
    greeting = asyncio.ensure_future(greet(link, "me", "secret", 3, "fairway"))
    for answer in (b"%0\r\n", b"+OK\r\n", b"-NOPERM no\r\n"):
        await passes()
        link.data_received(answer)
    await greeting

    assert [data.split(b"\r\n")[2::2] for data in transport.written] == [
        [b"HELLO", b"3", b"AUTH", b"me", b"secret"],
        [b"SELECT", b"3"],
        [b"CLIENT", b"SETNAME", b"fairway"],
    ]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("WRONGPASS invalid username-password pair", Refused, "check user and password in hosts"),
        ("NOAUTH HELLO must be called", Refused, "put it into hosts"),
        ("NOPERM this user has no permissions", Refused, "ACL SETUSER"),
        ("NOPROTO unsupported protocol version", Refused, "Redis 6.2 or later is needed"),
        ("ERR unknown command `HELLO`, with args", Refused, "Redis 6.2 or later is needed"),
        ("OOM command not allowed", Refused, "raise maxmemory"),
        ("MOVED 3999 10.0.0.1:6379", Refused, "this is a node of a Redis Cluster, which this layer cannot use"),
        ("ERR something else", Refused, "Redis refuses: ERR something else"),
        ("LOADING Redis is loading the dataset", Unavailable, "Redis is not ready: LOADING"),
        ("READONLY You can't write", Unavailable, "Redis is not ready: READONLY"),
        ("ERR Error running script (call to f_1): @user_script:7: -READONLY You can't", Unavailable, "not ready"),
    ],
)
def test_errors_say_what_to_do(text: str, kind: type[Exception], said: str) -> None:
    error = judged(ReplyError(text))

    assert type(error) is kind
    assert said in str(error)


async def test_a_reply_that_never_ends_takes_only_so_much_memory() -> None:
    link, transport, owner = new_link()
    link.data_received(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$500000000\r\n")
    for _ in range(owner.longest_reply // 1000):
        assert not transport.is_aborted
        link.data_received(b"x" * 1000)
    assert transport.is_aborted
    link.connection_lost(None)
    assert [str(error) for error in owner.losses] == ["a reply takes more than 100,000 bytes"]


async def test_many_messages_at_once_are_no_long_reply() -> None:
    link, transport, owner = new_link()
    for _ in range(3):
        link.data_received(message(b"a", b"x" * 50_000) * 4)
    assert len(owner.messages) == 12
    assert not transport.is_aborted


@pytest.mark.parametrize("data", [b">0\r\n", b">2\r\n$7\r\nmessage\r\n$1\r\na\r\n", b">1\r\n$7\r\nmessage\r\n"])
async def test_a_push_without_what_belongs_into_it_ends_the_connection(data: bytes) -> None:
    link, transport, owner = new_link()
    link.data_received(data)
    assert transport.is_aborted
    link.connection_lost(None)
    assert [str(error) for error in owner.losses] == ["what arrived is not what Redis sends"]


TOKENS = [
    b"*", b"%", b"~", b">", b"|", b"$", b"+", b"-", b":", b",", b"#", b"_", b"(", b"=", b"!", b"0", b"1", b"2", b"-1",
    b"99999999999999999999", b"\r\n", b"\r\n", b"\r\n", b"t", b"message", b"subscribe", b"\xff", b"\0",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=30), st.integers(1, 50), st.booleans())
def test_whatever_a_server_says_is_read_or_ends_the_connection(tokens: list[bytes], size: int, asks: bool) -> None:
    async def read() -> None:
        link, transport, owner = new_link()
        if asks:
            link.post(b"g", b"x")
            link.ask_whether_alive()
            link.forget(b"g")
        said = b"".join(tokens)
        for begin in range(0, len(said), size):
            if not transport.is_aborted:
                link.data_received(said[begin : begin + size])
        link.connection_lost(None)
        assert len(owner.losses) == 1
        assert link.ended.done()

    asyncio.run(read())


@pytest.mark.parametrize(
    "data",
    [
        b"%1\r\n*0\r\n:1\r\n",
        b"$-2\r\n",
        b":x\r\n",
        b"$9223372036854775807\r\n",
        b"*1\r\n" * 10_000,
    ],
    ids=["map", "length", "number", "bulk", "depth"],
)
async def test_replies_that_are_none_end_the_connection_or_wait(data: bytes) -> None:
    link, transport, owner = new_link()
    calling = asyncio.ensure_future(link.call(b"GET", b"a"))
    await passes()
    link.data_received(data)
    if not transport.is_aborted:  # there may be more of it
        assert not calling.done()
    link.connection_lost(None)
    with pytest.raises(Unavailable):
        await calling
    assert len(owner.losses) == 1
