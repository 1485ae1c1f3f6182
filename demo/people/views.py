"""Pages about the visitor: choose a name, make an account. Login and logout are Django's own views."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from people.forms import NameForm, RegisterForm
from people.models import Person
from people.signals import renamed


def you(request: HttpRequest) -> HttpResponse:
    person = request.person
    form = NameForm(request.POST or None, person=person, initial={"name": person.name})
    if request.method == "POST" and form.is_valid():
        person.name = form.cleaned_data["name"]
        person.save()
        renamed.send(Person, person=person)
        messages.success(request, _("You are now %(name)s.") % {"name": person.name})
        return redirect("people:you")
    return render(request, "people/you.html", {"form": form})


def register(request: HttpRequest) -> HttpResponse:
    """A guest who registers stays the same person: messages and notifications stay theirs."""
    if request.user.is_authenticated:
        return redirect("people:you")
    person = request.person
    form = RegisterForm(request.POST or None, person=person)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            person.user = form.save()
            person.name = person.user.get_username()
            person.save()
            renamed.send(Person, person=person)
        login(request, person.user)
        messages.success(request, _("Welcome aboard, %(name)s.") % {"name": person.name})
        return redirect("home")
    return render(request, "people/register.html", {"form": form})
