from django.urls import path, re_path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    re_path(r"^(?P<room_name>[A-Za-z0-9_]{1,40})/$", views.room, name="room"),
]
