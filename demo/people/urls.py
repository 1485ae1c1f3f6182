"""URLs under ``/you/``."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from people import views

app_name = "people"
urlpatterns = [
    path("", views.you, name="you"),
    path("register/", views.register, name="register"),
    path(
        "login/",
        LoginView.as_view(template_name="people/login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
]
