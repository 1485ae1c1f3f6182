from celery import shared_task
from django.db import transaction

from fairway.layers.sync import group_send, group_send_on_commit

from .models import Order


@shared_task
def ship(number):
    order = Order.objects.get(number=number)
    for step in ("picked", "packed"):
        group_send(order.group, {"type": "order.changed", "state": step})  # at once: nothing has to be there first
    with transaction.atomic():
        order.state = "shipped"
        order.save()
        group_send_on_commit(order.group, {"type": "order.changed", "state": order.state})
