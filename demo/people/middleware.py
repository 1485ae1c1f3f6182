"""``request.person``: looked up, or made, when first used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from people.identity import person_of_request


def person_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        request.person = SimpleLazyObject(partial(person_of_request, request))
        return get_response(request)

    return middleware
