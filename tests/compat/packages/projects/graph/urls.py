"""A page of Django's own, beside GraphQL."""

from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("about/", lambda request: HttpResponse("a page of Django's own"))]
