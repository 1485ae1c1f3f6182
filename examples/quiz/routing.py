from django.urls import path

from .consumers import Contestant

websocket_urlpatterns = [
    path("quiz/<slug:name>/", Contestant.as_asgi()),
]
