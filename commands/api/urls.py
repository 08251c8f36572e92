from django.urls import path

from commands.api import views

urlpatterns = [
    path("commands", views.CommandListView.as_view(), name="commands"),
    path("commands/<uuid:command_id>", views.CommandView.as_view(), name="command"),
    path("commands/<uuid:command_id>/events", views.CommandEventsView.as_view(), name="command-events"),
    path("commands/<uuid:command_id>/timeline", views.CommandTimelineView.as_view(), name="command-timeline"),
    path("commands/<uuid:command_id>/result", views.CommandResultView.as_view(), name="command-result"),
    path("commands/<uuid:command_id>/cancel", views.CommandCancelView.as_view(), name="command-cancel"),
    path("callbacks/runner/<str:token>", views.RunnerCallbackView.as_view(), name="runner-callback"),
]
