from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from fairway.layers.sync import group_send_on_commit

from .models import Order


@require_POST
@transaction.atomic
def pay(request, number):
    order = get_object_or_404(Order.objects.select_for_update(), number=number)
    order.state = "paid"
    order.save()
    group_send_on_commit(order.group, {"type": "order.changed", "state": order.state})
    return HttpResponse(status=204)
