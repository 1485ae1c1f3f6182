"""The consumers that docs/howto/broadcast.md shows."""

from __future__ import annotations

import json

from channels.auth import AuthMiddlewareStack
from tests.contracts.carriers import Carrier
from tests.contracts.ticker import Greetings, Prices, Search


async def test_a_price_reaches_everybody_else(carrier: Carrier, layer):
    await carrier.serve(Prices.as_asgi())
    first, second = [await carrier.connect() for _ in range(2)]
    for price in (7, 8):
        await first.send_text(json.dumps({"price": price}))
        assert await second.receive() == json.dumps({"price": price})
    await second.send_text('{"price": 9}')
    assert await first.receive() == '{"price": 9}'


async def test_a_greeting_is_made_for_each(carrier: Carrier, layer):
    await carrier.serve(AuthMiddlewareStack(Greetings.as_asgi()))
    clients = [await carrier.connect() for _ in range(2)]
    await clients[0].send_text('{"text": "hello"}')
    for client in clients:
        assert json.loads(await client.receive()) == {"text": "hello", "to": "AnonymousUser"}


async def test_questions_are_answered(carrier: Carrier):
    await carrier.serve(Search.as_asgi())
    client = await carrier.connect()
    for number in range(4):
        await client.send_text(json.dumps({"id": number, "words": ["b", "a"]}))
    answers = [json.loads(await client.receive()) for _ in range(4)]
    assert sorted(answer["id"] for answer in answers) == [0, 1, 2, 3]
    assert all(answer["found"] == ["a", "b"] for answer in answers)
