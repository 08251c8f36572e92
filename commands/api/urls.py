from typing import Any

from django.urls import path

from commands.api import acts, stats, steps, views
from commands.states import Stage


def _step(kind: Stage) -> Any:
    return steps.StepView.as_view(kind=kind)


urlpatterns = [
    path("commands", views.CommandListView.as_view(), name="commands"),
    path("commands/bulk", acts.BulkSubmitView.as_view(), name="commands-bulk"),
    path("commands/bulk-cancel", acts.BulkCancelView.as_view(), name="commands-bulk-cancel"),
    path("commands/stats", stats.CommandStatsView.as_view(), name="command-stats"),
    path("commands/<uuid:command_id>", views.CommandView.as_view(), name="command"),
    path("commands/<uuid:command_id>/events", views.CommandEventsView.as_view(), name="command-events"),
    path("commands/<uuid:command_id>/timeline", views.CommandTimelineView.as_view(), name="command-timeline"),
    path("commands/<uuid:command_id>/result", views.CommandResultView.as_view(), name="command-result"),
    path("commands/<uuid:command_id>/cancel", acts.CommandCancelView.as_view(), name="command-cancel"),
    path("commands/<uuid:command_id>/retry", acts.CommandRetryView.as_view(), name="command-retry"),
    path("segmentation", steps.SegmentationView.as_view(), name="segmentation"),
    path("segmentation/<uuid:step_id>", _step(Stage.SEGMENTATION), name="segmentation-step"),
    path("runner", steps.RunnerView.as_view(), name="runner"),
    path("runner/<uuid:step_id>", _step(Stage.RUNNER), name="runner-step"),
    path("runner/<uuid:step_id>/cancel", steps.RunnerCancelView.as_view(), name="runner-step-cancel"),
    path("archive", steps.ArchiveView.as_view(), name="archive"),
    path("archive/search", steps.ArchiveSearchView.as_view(), name="archive-search"),
    path("archive/<uuid:step_id>", _step(Stage.ARCHIVE), name="archive-step"),
    path("callbacks/runner/<str:token>", views.RunnerCallbackView.as_view(), name="runner-callback"),
]
