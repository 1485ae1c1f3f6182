"""Several consumers over one socket, through channelsmultiplexer."""

from common import *

ASGI_APPLICATION = "streams.asgi.application"
ROOT_URLCONF = "streams.asgi"
