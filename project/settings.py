"""Settings of the demo project: everything that differs between machines comes from `project.environment`."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from project.environment import DATA_DIR, database, options, variable

DEBUG = variable("DEBUG", "") == "1"
# Sessions and the secrets of webhook sources are derived from this key. With a public key, anybody could forge both. So
# there is no default for a machine that others can reach.
SECRET_KEY = variable("SECRET_KEY", "django-insecure-only-with-DEBUG" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "The environment variable SECRET_KEY is not set. Set it to a long random text that only this installation "
        "knows, for instance that of: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'. It must stay the "
        "same after a restart. `python3 run.py demo` makes and keeps a key of its own. On your own machine alone, "
        "DEBUG=1 is enough."
    )
ALLOWED_HOSTS = variable("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
# People's browsers speak HTTPS with a proxy, which sets this header itself. Programs beside the web app need no TLS, so
# nothing is redirected here: that is the proxy's.
BEHIND_TLS = variable("BEHIND_TLS", "") == "1"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
CSRF_TRUSTED_ORIGINS = list(filter(None, variable("CSRF_TRUSTED_ORIGINS", "").split(",")))

INSTALLED_APPS = [
    "reportqueue",
    "project",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "reportqueue.middleware.ProbeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": {
        **database(variable("DATABASE_URL", "postgresql:///reportqueue")),
        # A connection outlives its request; one that a restarted PostgreSQL has dropped is noticed before use.
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
# Behind a connection pool LISTEN does not work: this address leads to the same database without the pool.
LISTEN_DATABASE_URL = variable("LISTEN_DATABASE_URL", "")
if LISTEN_DATABASE_URL:
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
    DATABASES["direct"] = database(LISTEN_DATABASE_URL)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
# The finders serve the admin's files as installed: no collectstatic step, nothing to go stale.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
MEDIA_ROOT = DATA_DIR / "artifacts"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": variable("ARTIFACT_STORAGE", "project.storage.WholeFileStorage"),
        "OPTIONS": options("ARTIFACT_STORAGE_OPTIONS"),
    },
}

LOGIN_URL = "admin:login"

# The demo writes its mail to files. Give EMAIL_BACKEND django.core.mail.backends.smtp.EmailBackend to send it.
EMAIL_BACKEND = variable("EMAIL_BACKEND", "django.core.mail.backends.filebased.EmailBackend")
EMAIL_FILE_PATH = DATA_DIR / "mail"
EMAIL_HOST, EMAIL_PORT = variable("EMAIL_HOST", "localhost"), int(variable("EMAIL_PORT", "25"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = variable("DEFAULT_FROM_EMAIL", "reports@localhost")

DAGSTER_URL = variable("DAGSTER_URL", "")
REPORTQUEUE = {
    "RUN_URL": f"{DAGSTER_URL or 'http://127.0.0.1:3000'}/runs/{{run_id}}",
    "DAGSTER_URL": DAGSTER_URL,
    "DELETE_ARTIFACTS": "project.artifacts.delete_files",
    "LISTEN_DATABASE": "direct" if LISTEN_DATABASE_URL else "",
    "SITE_URL": variable("SITE_URL", variable("REPORTQUEUE_URL", "")),
    "WEBHOOK_ALLOW_HTTP": variable("WEBHOOK_ALLOW_HTTP", "") == "1",
    "WEBHOOK_ALLOWED_NETWORKS": list(filter(None, variable("WEBHOOK_ALLOWED_NETWORKS", "").split(","))),
    "METRICS_TOKEN": variable("METRICS_TOKEN", ""),
    "METRICS_OPEN": variable("METRICS_OPEN", "") == "1",
    "RETRY_BACKOFF_SECONDS": int(variable("RETRY_BACKOFF_SECONDS", "30")),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"reportqueue": {"level": "INFO"}},
}
