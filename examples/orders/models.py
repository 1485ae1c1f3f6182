from django.db import models


class Order(models.Model):
    number = models.CharField(max_length=20, unique=True)
    state = models.CharField(max_length=20, default="open")

    @property
    def group(self):
        """Those who watch this order."""
        return f"order-{self.number}"
