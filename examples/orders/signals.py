from django.db.models.signals import post_delete
from django.dispatch import receiver

from fairway.layers.sync import group_send_on_commit

from .models import Order


@receiver(post_delete, sender=Order)
def order_deleted(sender, instance, using, **kwargs):
    group_send_on_commit(instance.group, {"type": "order.changed", "state": "deleted"}, using=using)
