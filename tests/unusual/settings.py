"""The settings of `startproject`, changed wherever a project may have something else; and a database of their own."""

import os

from theirs.settings import *  # noqa: F403
from theirs.settings import INSTALLED_APPS, MIDDLEWARE

SCHEMA = "their_schema"
INSTALLED_APPS = [
    *INSTALLED_APPS,
    "django.contrib.postgres",
    "rest_framework",
    "reportqueue",
    "custom_user",
    "unusual",
]
AUTH_USER_MODEL = "custom_user.EmailUser"
ROOT_URLCONF = "unusual.urls"
MIDDLEWARE = [*MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "TEST": {"NAME": f"test_unusual_{os.getpid()}"},
        "ATOMIC_REQUESTS": True,
        "TIME_ZONE": "Asia/Kathmandu",
        "OPTIONS": {"options": f"-c search_path={SCHEMA}"},
    }
}
TIME_ZONE = "America/St_Johns"
LANGUAGE_CODE = "fr"
USE_THOUSAND_SEPARATOR = True
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.AdminRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FileUploadParser"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 1,
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "1/day"},
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "ALLOWED_VERSIONS": ["9"],
    "EXCEPTION_HANDLER": "unusual.urls.no_answer",
    "DATETIME_FORMAT": "%d.%m.%Y",
    "UNAUTHENTICATED_USER": None,
}
