"""The API's addresses: `path("api/", include("reportqueue.api.urls"))`."""

from django.urls import path, re_path

from reportqueue.api import firings, polling, reports, schedule_views, together, views, webhook_views

app_name = "reportqueue"
urlpatterns = [
    path("report-queue/", views.QueueView.as_view(), name="queue"),
    path("report-queue/claim/", views.ClaimView.as_view(), name="claim"),
    path("report-queue/start/", together.StartView.as_view(), name="start-together"),
    path("report-queue/heartbeat/", together.HeartbeatView.as_view(), name="heartbeat-together"),
    path("report-queue/complete/", together.CompleteView.as_view(), name="complete-together"),
    path("report-queue/<int:pk>/", views.ItemView.as_view(), name="item"),
    path("report-queue/<int:pk>/start/", views.StartView.as_view(), name="start"),
    path("report-queue/<int:pk>/heartbeat/", views.HeartbeatView.as_view(), name="heartbeat"),
    path("report-queue/<int:pk>/complete/", views.CompleteView.as_view(), name="complete"),
    path("report-queue/<int:pk>/fail/", views.FailView.as_view(), name="fail"),
    path("report-queue/<int:pk>/release/", views.ReleaseView.as_view(), name="release"),
    path("report-queue/<int:pk>/cancel/", views.CancelView.as_view(), name="cancel"),
    path("report-queue/<int:pk>/requeue/", views.RequeueView.as_view(), name="requeue"),
    path("pending-reports/", polling.PendingView.as_view(), name="pending"),
    path("reports/", reports.ReportsView.as_view(), name="reports"),
    path("reports/<int:pk>/mark-processed/", polling.MarkProcessedView.as_view(), name="mark-processed"),
    path("schedules/", schedule_views.SchedulesView.as_view(), name="schedules"),
    path("schedules/preview/", schedule_views.NewPreviewView.as_view(), name="new-preview"),
    path("schedules/<int:pk>/", schedule_views.ScheduleView.as_view(), name="schedule"),
    path("schedules/<int:pk>/pause/", schedule_views.PauseView.as_view(), name="pause"),
    path("schedules/<int:pk>/resume/", schedule_views.ResumeView.as_view(), name="resume"),
    path("schedules/<int:pk>/run/", schedule_views.RunView.as_view(), name="run"),
    path("schedules/<int:pk>/backfill/", schedule_views.BackfillView.as_view(), name="backfill"),
    path("schedules/<int:pk>/preview/", schedule_views.PreviewView.as_view(), name="preview"),
    path("schedules/<int:pk>/start-firing/", firings.StartFiringView.as_view(), name="start-firing"),
    path("schedules/<int:pk>/queue-firing/", firings.QueueFiringView.as_view(), name="queue-firing"),
    path("webhooks/<slug:source>/", webhook_views.WebhookView.as_view(), name="webhook"),
    re_path(r"", views.UnknownEndpoint.as_view()),
]
