"""The API's addresses: `path("api/", include("reportqueue.api.urls"))`."""

from django.urls import path, re_path

from reportqueue.api.views import batch, catalogue, queue, schedules, sensors, webhooks

app_name = "reportqueue"
urlpatterns = [
    path("report-queue/", queue.QueueView.as_view(), name="queue"),
    path("report-queue/claim/", queue.ClaimView.as_view(), name="claim"),
    path("report-queue/pauses/", queue.PausesView.as_view(), name="pauses"),
    path("report-queue/pause/", queue.PauseView.as_view(), name="pause-queue"),
    path("report-queue/resume/", queue.ResumeView.as_view(), name="resume-queue"),
    path("report-queue/start/", batch.StartView.as_view(), name="start-batch"),
    path("report-queue/heartbeat/", batch.HeartbeatView.as_view(), name="heartbeat-batch"),
    path("report-queue/complete/", batch.CompleteView.as_view(), name="complete-batch"),
    path("report-queue/<int:pk>/", queue.ItemView.as_view(), name="item"),
    path("report-queue/<int:pk>/start/", queue.StartView.as_view(), name="start"),
    path("report-queue/<int:pk>/heartbeat/", queue.HeartbeatView.as_view(), name="heartbeat"),
    path("report-queue/<int:pk>/complete/", queue.CompleteView.as_view(), name="complete"),
    path("report-queue/<int:pk>/fail/", queue.FailView.as_view(), name="fail"),
    path("report-queue/<int:pk>/release/", queue.ReleaseView.as_view(), name="release"),
    path("report-queue/<int:pk>/cancel/", queue.CancelView.as_view(), name="cancel"),
    path("report-queue/<int:pk>/requeue/", queue.RequeueView.as_view(), name="requeue"),
    path("catalogue/", catalogue.CatalogueView.as_view(), name="catalogue"),
    path("catalogue/<int:pk>/", catalogue.ReportView.as_view(), name="report"),
    path("pending-reports/", sensors.PendingView.as_view(), name="pending"),
    path("reports/", sensors.ReportsView.as_view(), name="reports"),
    path("reports/<int:pk>/mark-processed/", sensors.MarkProcessedView.as_view(), name="mark-processed"),
    path("schedules/", schedules.SchedulesView.as_view(), name="schedules"),
    path("schedules/agenda/", schedules.AgendaView.as_view(), name="agenda"),
    path("schedules/preview/", schedules.NewPreviewView.as_view(), name="new-preview"),
    path("schedules/<int:pk>/", schedules.ScheduleView.as_view(), name="schedule"),
    path("schedules/<int:pk>/pause/", schedules.PauseView.as_view(), name="pause"),
    path("schedules/<int:pk>/resume/", schedules.ResumeView.as_view(), name="resume"),
    path("schedules/<int:pk>/run/", schedules.RunView.as_view(), name="run"),
    path("schedules/<int:pk>/backfill/", schedules.BackfillView.as_view(), name="backfill"),
    path("schedules/<int:pk>/preview/", schedules.PreviewView.as_view(), name="preview"),
    path("schedules/<int:pk>/start-firing/", sensors.StartFiringView.as_view(), name="start-firing"),
    path("schedules/<int:pk>/queue-firing/", sensors.QueueFiringView.as_view(), name="queue-firing"),
    path("webhooks/<slug:source>/", webhooks.WebhookView.as_view(), name="webhook"),
    re_path(r"", queue.UnknownEndpoint.as_view()),
]
