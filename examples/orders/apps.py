from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "examples.orders"

    def ready(self):
        from . import signals  # noqa: F401  # connects its receivers
