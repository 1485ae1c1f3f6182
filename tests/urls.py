"""URLs of the test project; a test that needs some overrides `ROOT_URLCONF`."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
