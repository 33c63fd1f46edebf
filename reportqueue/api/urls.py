"""The API's addresses: `path("api/", include("reportqueue.api.urls"))`."""

from django.urls import path, re_path

from reportqueue.api import views

app_name = "reportqueue"
urlpatterns = [
    path("report-queue/", views.QueueView.as_view(), name="queue"),
    path("report-queue/claim/", views.ClaimView.as_view(), name="claim"),
    path("report-queue/<int:pk>/", views.ItemView.as_view(), name="item"),
    path("report-queue/<int:pk>/start/", views.StartView.as_view(), name="start"),
    path("report-queue/<int:pk>/heartbeat/", views.HeartbeatView.as_view(), name="heartbeat"),
    path("report-queue/<int:pk>/complete/", views.CompleteView.as_view(), name="complete"),
    path("report-queue/<int:pk>/fail/", views.FailView.as_view(), name="fail"),
    path("report-queue/<int:pk>/release/", views.ReleaseView.as_view(), name="release"),
    path("report-queue/<int:pk>/cancel/", views.CancelView.as_view(), name="cancel"),
    path("report-queue/<int:pk>/requeue/", views.RequeueView.as_view(), name="requeue"),
    path("schedules/", views.SchedulesView.as_view(), name="schedules"),
    path("schedules/<int:pk>/", views.ScheduleView.as_view(), name="schedule"),
    re_path(r"", views.UnknownEndpoint.as_view()),
]
