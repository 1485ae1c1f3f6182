from django.contrib.auth.models import AnonymousUser, User
from django.test import SimpleTestCase, override_settings

from channels.testing import HttpCommunicator, WebsocketCommunicator

from .consumers import Hello, Room, Shout

IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@override_settings(CHANNEL_LAYERS=IN_MEMORY)
class RoomTests(SimpleTestCase):
    def client_of(self, user):
        client = WebsocketCommunicator(Room.as_asgi(), "/ws/rooms/tea/")
        client.scope.update(user=user, url_route={"kwargs": {"name": "tea"}})
        return client

    async def test_everybody_in_the_room_hears_what_is_said(self):
        mira, tom = (self.client_of(User(username=name)) for name in ("mira", "tom"))
        for client in (mira, tom):
            self.assertEqual(await client.connect(), (True, None))
        await mira.send_json_to({"text": "hello"})
        for client in (mira, tom):
            self.assertEqual(await client.receive_json_from(), {"text": "hello"})
            self.assertTrue(await client.receive_nothing())
            await client.disconnect()

    async def test_who_is_not_logged_in_stays_outside(self):
        connected, _ = await self.client_of(AnonymousUser()).connect()
        self.assertFalse(connected)


class OtherTests(SimpleTestCase):
    async def test_a_synchronous_consumer_answers(self):
        client = WebsocketCommunicator(Shout.as_asgi(), "/")
        await client.connect()
        await client.send_to(text_data="hello")
        self.assertEqual(await client.receive_from(), "HELLO")
        await client.disconnect()

    async def test_an_http_consumer_answers(self):
        response = await HttpCommunicator(Hello.as_asgi(), "GET", "/hello/").get_response()
        self.assertEqual((response["status"], response["body"]), (200, b"hello"))
