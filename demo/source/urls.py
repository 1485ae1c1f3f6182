"""URLs under ``/source/``."""

from __future__ import annotations

from django.urls import path

from source import views

app_name = "source"
urlpatterns = [
    path("", views.index, name="index"),
    path("<slug:name>/", views.page, name="page"),
    path("<slug:name>/<slug:slug>/", views.page, name="file"),
]
