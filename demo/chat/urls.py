"""URLs under ``/chat/``."""

from __future__ import annotations

from django.urls import path

from chat import views

app_name = "chat"
urlpatterns = [
    path("", views.lobby, name="lobby"),
    path("rooms/", views.open_room, name="open_room"),
    path("in/<str:slug>/", views.room, name="room"),
]
