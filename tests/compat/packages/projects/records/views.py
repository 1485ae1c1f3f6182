"""An ordinary view of REST framework, which is also served over a socket."""

from rest_framework.decorators import api_view
from rest_framework.response import Response

from records.models import Note

urlpatterns = []


@api_view(["GET"])
def count(request, word):
    return Response({"word": word, "notes": Note.objects.filter(text__contains=word).count()})
