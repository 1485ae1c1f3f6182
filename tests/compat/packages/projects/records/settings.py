"""Notes that are read, written and watched through djangochannelsrestframework."""

from common import *

ASGI_APPLICATION = "records.asgi.application"
ROOT_URLCONF = "records.views"
INSTALLED_APPS += ["rest_framework", "records"]
