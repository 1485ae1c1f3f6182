from django.urls import path

from .consumers import Player

websocket_urlpatterns = [
    path("<slug:name>/", Player.as_asgi()),
]
