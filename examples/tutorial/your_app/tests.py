from channels.testing import WebsocketCommunicator
from django.test import TestCase

from your_project_name.asgi import application


class ChatTests(TestCase):
    def test_the_page_is_served(self):
        response = self.client.get('/')
        self.assertContains(response, 'chat-message-input')

    async def test_a_message_comes_back(self):
        communicator = WebsocketCommunicator(application, '/ws/chat/')
        connected, subprotocol = await communicator.connect()
        self.assertTrue(connected)

        await communicator.send_json_to({'message': 'hello'})
        self.assertEqual(await communicator.receive_json_from(), {'message': 'hello'})

        await communicator.disconnect()
