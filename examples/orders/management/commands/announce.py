from django.core.management.base import BaseCommand

from fairway.layers.sync import group_broadcast_json


class Command(BaseCommand):
    help = "Say something to everybody who has a page of the shop open."

    def add_arguments(self, parser):
        parser.add_argument("text")

    def handle(self, *args, text, **options):
        group_broadcast_json("shop", {"announcement": text})
