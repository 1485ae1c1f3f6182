"""A chat in GraphQL, through strawberry-graphql's integration."""

from common import *

ASGI_APPLICATION = "graph.asgi.application"
ROOT_URLCONF = "graph.urls"
# A subscription over HTTP goes on for a while after its client has left; tests that have ended do not wait for it.
FAIRWAY = {"CLOSE_TIMEOUT": 0.2, "DISCONNECT_TIMEOUT": 0.2}
