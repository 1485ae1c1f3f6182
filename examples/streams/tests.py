from channels.layers import get_channel_layer
from fairway.testing import EventSourceCommunicator, ReconnectingCommunicator, VirtualClock

from .consumers import Chat, Progress


def a_page():
    scope = {"url_route": {"kwargs": {"room": "lobby"}}}
    return ReconnectingCommunicator(Chat.as_asgi(), "/chat/lobby/", scope=scope)


async def say(text):
    await get_channel_layer().group_send("chat.lobby", {"type": "chat.said", "text": text})


async def test_a_page_misses_nothing():
    page = a_page()
    await page.connect()
    await page.receive_from()
    await say("one")
    await page.receive_from()
    await say("two")
    await page.lose()
    await say("three")

    await page.reconnect()
    assert (await page.receive_json_from())["recovered"]
    for _ in range(2):
        await page.receive_from()
    assert [message["text"] for message in page.received if "text" in message] == ["one", "two", "three"]
    assert await page.receive_nothing()
    await page.disconnect()


async def test_a_page_that_was_away_for_too_long_is_told():
    with VirtualClock() as clock:
        page = a_page()
        await page.connect()
        await page.receive_from()
        await page.lose()
        await say("long ago")
        await clock.advance(301)

        await page.reconnect()
        assert not (await page.receive_json_from())["recovered"]
        await page.disconnect()


async def test_the_progress_of_a_job_goes_on_where_it_was():
    layer = get_channel_layer()
    page = EventSourceCommunicator(Progress.as_asgi(), "/", scope={"url_route": {"kwargs": {"number": 5}}})
    await page.connect()
    await layer.group_send("job.5", {"type": "job.step", "step": "read"})
    assert (await page.receive_event()).data == "read"
    await page.lose()
    await layer.group_send("job.5", {"type": "job.step", "step": "stored"})

    await page.reconnect()
    assert (await page.receive_event()).data == "stored"
    await page.lose()
