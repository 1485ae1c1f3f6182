"""The stream, and a page that sends into it."""

import django_eventstream
from django.http import HttpResponse
from django.urls import include, path


def say(request, text):
    django_eventstream.send_event("hall", "message", {"text": text})
    return HttpResponse("said")


urlpatterns = [
    path("events/", include(django_eventstream.urls), {"channels": ["hall"]}),
    path("say/<text>/", say),
]
