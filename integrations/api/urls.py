from django.urls import path

from integrations.api import alarms, views

urlpatterns = [
    path("services", views.ServiceListView.as_view(), name="services"),
    path("services/<uuid:service_id>", views.ServiceView.as_view(), name="service"),
    path("services/<uuid:service_id>/heartbeat", views.ServiceHeartbeatView.as_view(), name="service-heartbeat"),
    path("services/<uuid:service_id>/drain", views.ServiceDrainView.as_view(), name="service-drain"),
    path("services/<uuid:service_id>/checks", views.ServiceChecksView.as_view(), name="service-checks"),
    path("alarms", alarms.AlarmListView.as_view(), name="alarms"),
    path("alarms/<uuid:alarm_id>", alarms.AlarmView.as_view(), name="alarm"),
    path("alarms/<uuid:alarm_id>/acknowledge", alarms.AlarmAcknowledgeView.as_view(), name="alarm-acknowledge"),
    path("alarms/<uuid:alarm_id>/silence", alarms.AlarmSilenceView.as_view(), name="alarm-silence"),
]
