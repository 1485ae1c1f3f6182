"""URLs under ``/notifications/``."""

from __future__ import annotations

from django.urls import path

from notify import views

app_name = "notify"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("ring/", views.ring, name="ring"),
]
