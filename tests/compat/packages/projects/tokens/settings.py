"""Users known by tokens, through channels-auth-token-middlewares."""

from common import *

ASGI_APPLICATION = "tokens.asgi.application"
ROOT_URLCONF = "tokens.asgi"
INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken", "channels_auth_token_middlewares"]
# Long enough to sign with.
SECRET_KEY = "not a secret: tests only, and as long as tokens want it"
