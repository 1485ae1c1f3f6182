from django.test import TestCase

from fairway.testing import Sent, record_sent

from .models import Order


class PayTests(TestCase):
    def test_those_who_watch_the_order_are_told(self):
        order = Order.objects.create(number="A1")

        with record_sent() as sent, self.captureOnCommitCallbacks(execute=True):
            response = self.client.post("/orders/A1/pay/")

        assert response.status_code == 204
        assert sent == [Sent("group_send", order.group, {"type": "order.changed", "state": "paid"})]
