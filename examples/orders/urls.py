from django.urls import path

from .consumers import OrderConsumer
from .views import pay

urlpatterns = [path("orders/<str:number>/pay/", pay)]
websocket_urlpatterns = [path("ws/orders/<str:number>/", OrderConsumer.as_asgi())]
