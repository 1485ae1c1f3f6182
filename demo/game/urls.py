"""URLs under ``/game/``."""

from __future__ import annotations

from django.urls import path

from game import views

app_name = "game"
urlpatterns = [
    path("", views.play, name="play"),
    path("new/", views.new_room, name="new"),
    path("in/<slug:room>/", views.play, name="room"),
    path("in/<slug:room>/watch/", views.watch, name="watch"),
]
