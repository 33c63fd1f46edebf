"""The API, where the client expects it."""

from django.urls import include, path

urlpatterns = [path("api/", include("reportqueue.api.urls"))]
