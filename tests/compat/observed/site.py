"""A room behind the middlewares that production puts around applications; `test_observers.py` serves each."""

from __future__ import annotations

from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="not a secret: tests only",
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)

import django  # noqa: E402

django.setup()

import sentry_sdk  # noqa: E402
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor  # noqa: E402
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware  # noqa: E402
from sentry_sdk.transport import Transport  # noqa: E402

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402


class Room(AsyncWebsocketConsumer):
    groups = ["room"]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "raise":
            raise LookupError("on purpose")
        await self.channel_layer.group_broadcast("room", text_data=text_data)


class ToOutput(Transport):
    """Prints what would be sent to Sentry."""

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            event = item.get_event()
            if event is not None and "exception" in event:
                print("sentry got", event["exception"]["values"][0]["type"], flush=True)


plain = ProtocolTypeRouter({"websocket": Room.as_asgi()})


def with_sentry() -> Any:
    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=ToOutput, traces_sample_rate=1.0)
    return SentryAsgiMiddleware(plain)


def with_opentelemetry() -> Any:
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(formatter=lambda span: f"span {span.name}\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OpenTelemetryMiddleware(plain, tracer_provider=provider)
