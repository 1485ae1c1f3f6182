from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core import signing

from channels.db import database_sync_to_async
from channels.middleware import BaseMiddleware

SALT = "app token"


def token_for(user):
    """What the app gets when somebody has logged in over HTTPS, and keeps."""
    return signing.dumps(user.pk, salt=SALT)


@database_sync_to_async
def user_of(token):
    try:
        pk = signing.loads(token, salt=SALT, max_age=30 * 24 * 3600)
    except signing.BadSignature:
        return AnonymousUser()
    return get_user_model().objects.filter(pk=pk, is_active=True).first() or AnonymousUser()


class TokenMiddleware(BaseMiddleware):
    async def __call__(self, scope, receive, send):
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, token = header.partition(" ")
        user = await user_of(token) if scheme == "Bearer" else AnonymousUser()
        return await super().__call__({**scope, "user": user}, receive, send)
