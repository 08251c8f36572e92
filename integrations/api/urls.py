from django.urls import path

from integrations.api import views

urlpatterns = [
    path("services", views.ServiceListView.as_view(), name="services"),
    path("services/<uuid:service_id>", views.ServiceView.as_view(), name="service"),
    path("services/<uuid:service_id>/heartbeat", views.ServiceHeartbeatView.as_view(), name="service-heartbeat"),
    path("services/<uuid:service_id>/drain", views.ServiceDrainView.as_view(), name="service-drain"),
    path("services/<uuid:service_id>/checks", views.ServiceChecksView.as_view(), name="service-checks"),
]
