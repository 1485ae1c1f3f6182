from django.http import JsonResponse

from fairway.layers.sync import history

MESSAGES = []  # a table, on a real site


def room(request, room):
    # Before the query: what is said meanwhile then comes twice, not never.
    position = history(f"chat.{room}", limit=1).top
    return JsonResponse({"position": position, "messages": list(MESSAGES)})
