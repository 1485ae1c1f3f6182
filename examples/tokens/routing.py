from django.urls import path, re_path

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator

from .consumers import Account
from .middleware import TokenMiddleware

routes = URLRouter([path("account/", Account.as_asgi())])

websocket_application = URLRouter(
    [
        re_path(r"^app/", TokenMiddleware(routes)),  # apps: a token, no cookies, any origin
        re_path(r"^ws/", AllowedHostsOriginValidator(AuthMiddlewareStack(routes))),  # pages: cookies, our origin
    ]
)
