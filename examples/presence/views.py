from django.http import JsonResponse

from fairway.layers.sync import presence, presence_count


def lobby(request):
    names = sorted(data[0]["name"] for data in presence("lobby").values())
    return JsonResponse({"names": names, "connections": presence_count("lobby")})
