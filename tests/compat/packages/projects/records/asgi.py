"""The consumer, and a view as a consumer."""

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.urls import path
from djangochannelsrestframework.consumers import view_as_consumer

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from records.consumers import Notes
from records.views import count

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AuthMiddlewareStack(
            URLRouter([path("notes/", Notes.as_asgi()), path("count/", view_as_consumer(count))])
        ),
    }
)
