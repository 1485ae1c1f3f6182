"""Who is this? The same answer for a view's request and for a consumer's scope.

The session holds the person's primary key. A view makes a person for a visitor who has none; a WebSocket cannot set a
cookie, so a consumer that finds none refuses the connection.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from people.models import Person

SESSION_KEY = "person"


def person_of_request(request: HttpRequest) -> Person:
    person = Person.objects.filter(pk=request.session.get(SESSION_KEY)).first()
    if person is None:
        user = request.user
        person = Person.objects.of_user(user) if user.is_authenticated else Person.objects.create_guest()
        request.session[SESSION_KEY] = person.pk
    return person


def person_of_scope(scope: dict[str, Any]) -> Person | None:
    return Person.objects.filter(pk=scope["session"].get(SESSION_KEY)).first()
