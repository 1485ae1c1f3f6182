from django.urls import path, re_path
from . import consumers

websocket_urlpatterns = [
    path('ws/chat/', consumers.ChatConsumer.as_asgi()),
    re_path(r'^ws/chat/(?P<room>[a-z0-9-]{1,40})/$', consumers.ChatConsumer.as_asgi()),
]
