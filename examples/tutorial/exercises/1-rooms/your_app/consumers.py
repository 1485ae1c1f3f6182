# consumers.py
from channels.generic.websocket import AsyncWebsocketConsumer
import json

class ChatConsumer(AsyncWebsocketConsumer):
    async def connect(self):
        room = self.scope['url_route']['kwargs'].get('room', 'lobby')
        self.room_group = f'chat.{room}'
        await self.channel_layer.group_add(self.room_group, self.channel_name)
        await self.accept()

    async def disconnect(self, close_code):
        await self.channel_layer.group_discard(self.room_group, self.channel_name)

    async def receive(self, text_data):
        text_data_json = json.loads(text_data)
        message = text_data_json['message']

        await self.channel_layer.group_send(self.room_group, {
            'type': 'chat.message',
            'message': message
        })

    async def chat_message(self, event):
        await self.send(text_data=json.dumps({
            'message': event['message']
        }))
