"""URLs under ``/game/``."""

from __future__ import annotations

from django.urls import path

from game import views

app_name = "game"
urlpatterns = [path("", views.play, name="play")]
