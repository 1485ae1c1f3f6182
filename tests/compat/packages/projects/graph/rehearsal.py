"""A project's own test, with the package's communicator: `python -m graph.rehearsal` prints what it heard as JSON."""

import asyncio
import json

from strawberry.channels.testing import GraphQLWebsocketCommunicator

from graph.asgi import application

SUBSCRIPTION = 'subscription { listen(rooms: ["hall"]) { text } }'
MUTATION = 'mutation { say(room: "hall", text: "rehearsed") }'


def communicator():
    return GraphQLWebsocketCommunicator(application=application, path="/graphql", protocol="graphql-transport-ws")


async def rehearse():
    heard = []
    async with communicator() as ann, communicator() as ben:
        async for result in ann.subscribe(query=SUBSCRIPTION):
            heard.append(result.data["listen"]["text"])
            if heard == ["subscribed"]:
                async for answer in ben.subscribe(query=MUTATION):
                    assert answer.errors is None
            else:
                break
    return heard


print(json.dumps(asyncio.run(rehearse())))
