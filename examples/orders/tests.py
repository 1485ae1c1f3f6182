from django.test import TestCase

from .models import Order


class PayTests(TestCase):
    def test_those_who_watch_the_order_are_told(self):
        Order.objects.create(number="A1")

        with self.captureOnCommitCallbacks() as callbacks:
            response = self.client.post("/orders/A1/pay/")

        assert response.status_code == 204
        assert len(callbacks) == 1
