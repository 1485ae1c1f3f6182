"""Rooms to subscribe to, and a mutation that speaks in one."""

from collections.abc import AsyncGenerator

import strawberry

from channels.layers import get_channel_layer


@strawberry.type
class ChatMessage:
    room: str
    text: str


@strawberry.type
class Query:
    @strawberry.field
    def greeting(self, name: str) -> str:
        return f"Hello, {name}"


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def say(self, room: str, text: str) -> None:
        await get_channel_layer().group_send(room, {"type": "chat.message", "room": room, "text": text})


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def listen(self, info: strawberry.Info, rooms: list[str]) -> AsyncGenerator[ChatMessage, None]:
        request = info.context["request"]
        consumer = getattr(request, "consumer", request)
        async with consumer.listen_to_channel("chat.message", groups=rooms) as messages:
            yield ChatMessage(room="", text="subscribed")
            async for message in messages:
                yield ChatMessage(room=message["room"], text=message["text"])


schema = strawberry.Schema(Query, Mutation, Subscription)
