from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "gateway.api"
    label = "gateway_api"
