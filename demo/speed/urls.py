"""URLs under ``/speed/``; its WebSockets are in ``demo.asgi``."""

from __future__ import annotations

from django.urls import path

from speed import views

app_name = "speed"
urlpatterns = [path("", views.panel, name="panel")]
