"""The consumers: actions of the mixins and of our own, and what they observe."""

from django.dispatch import Signal
from djangochannelsrestframework.decorators import action
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import CreateModelMixin, ListModelMixin, PatchModelMixin
from djangochannelsrestframework.observer import model_observer, observer
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from rest_framework.permissions import AllowAny
from rest_framework.serializers import ModelSerializer

from records.models import Note

rung = Signal()


class NoteSerializer(ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "text"]


class Notes(ListModelMixin, CreateModelMixin, PatchModelMixin, ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = Note.objects.order_by("id")
    serializer_class = NoteSerializer
    permission_classes = [AllowAny]

    @model_observer(Note, serializer_class=NoteSerializer)
    async def note_activity(self, message, action=None, subscribing_request_ids=(), **kwargs):
        for request_id in subscribing_request_ids:
            await self.reply(data=message, action=action, request_id=request_id)

    @action()
    async def watch_all(self, request_id, **kwargs):
        await self.note_activity.subscribe(request_id=request_id)
        return {}, 201

    @action()
    def longest(self, **kwargs):
        return {"text": max(Note.objects.values_list("text", flat=True), key=len)}, 200

    @observer(rung)
    async def bell(self, message, subscribing_request_ids=(), **kwargs):
        for request_id in subscribing_request_ids:
            await self.reply(data=message, action="bell", request_id=request_id)

    @bell.serializer
    def bell(self, signal, by, **kwargs):
        return {"by": by}

    @action()
    async def listen(self, request_id, **kwargs):
        await self.bell.subscribe(request_id=request_id)
        return {}, 201

    @action()
    def ring(self, by, **kwargs):
        rung.send(sender=type(self), by=by)
        return {}, 200
