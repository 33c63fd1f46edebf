"""The demo project's addresses."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from project.artifacts import ArtifactView
from project.receiver import receive

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:reportqueue_reportqueue_changelist")),
    path("", include("reportqueue.health")),
    path("", include("reportqueue.metrics")),
    path("admin/", admin.site.urls),
    path("api/", include("reportqueue.api.urls")),
    path("demo-webhooks/", receive),
    path("artifacts/<str:run_id>/<str:name>", ArtifactView.as_view(), name="artifact"),
    path("artifacts/<str:run_id>/<int:queue_id>/<str:name>", ArtifactView.as_view(), name="report-artifact"),
]
