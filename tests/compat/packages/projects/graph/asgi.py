"""GraphQL below /graphql over HTTP and WebSocket, everything else to Django."""

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from strawberry import subscriptions
from strawberry.channels import GraphQLProtocolTypeRouter

from graph.schema import schema

application = GraphQLProtocolTypeRouter(
    schema,
    django_application=django_application,
    subscription_protocols=[
        subscriptions.GRAPHQL_TRANSPORT_WS_PROTOCOL,
        subscriptions.GRAPHQL_WS_PROTOCOL,
        subscriptions.GRAPHQL_SSE_PROTOCOL,
        subscriptions.MULTIPART_SUBSCRIPTION_PROTOCOL,
    ],
)
