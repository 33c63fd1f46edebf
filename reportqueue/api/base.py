"""The base view of all endpoints, independent of the project's REST settings."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponseBase
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import method_decorator
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from reportqueue import audit, bounds, locks, tracing
from reportqueue.api import problems
from reportqueue.api.parsers import BoundedJSONParser
from reportqueue.api.permissions import Scopes
from reportqueue.api.serializers import queue as shapes
from reportqueue.conf import authentication_classes
from reportqueue.models import ApiToken
from reportqueue.models.audit import Via

TIME_HEADER = "Reportqueue-Time"
R = TypeVar("R", bound=HttpResponseBase)


def told_time(response: R, now: datetime) -> R:
    """Add the database's time to an answer. Sensors decide by it what is due: their own clock may differ."""
    response[TIME_HEADER] = now.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return response


def user_of(request: Request) -> str:
    """The name of the caller's user, as far as a consumer's name may be long."""
    return str(request.user.get_username())[: bounds.MAX_NAME_LENGTH]


def _caller(request: Request) -> str:
    """For the audit: the user, and the name of the token if the request has one of this app."""
    name = str(request.user.get_username())
    return f"{name} (token {request.auth.name})" if isinstance(request.auth, ApiToken) else name


def _path_parameters(view: Any) -> frozenset[str]:
    handlers = [getattr(view, name) for name in view.http_method_names if hasattr(view, name)]
    taken = [one for handler in handlers for one in [*inspect.signature(handler).parameters.values()][2:]]
    return frozenset(one.name for one in taken if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)


class OneFormat(DefaultContentNegotiation):
    """Answer with JSON, or 406; `?format=` has no special meaning."""

    def filter_renderers(self, renderers: Any, format: Any) -> Any:
        """All of them."""
        return renderers


@method_decorator(locks.without_request_transaction, name="dispatch")
class ApiView(APIView):
    """The base of all endpoints. It has its own error format and sets every policy of DRF, whatever the project has."""

    authentication_classes: Any = None
    permission_classes = [Scopes]
    parser_classes = [BoundedJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = OneFormat
    # A limit that the project sets for people would refuse claims and heartbeats, and runs would lose their leases.
    throttle_classes: list[Any] = []
    metadata_class = None
    versioning_class = None
    scopes: dict[str, str | tuple[str, ...]] = {}
    parameters: list[str] = []
    """The query parameters of a GET; other methods have none."""
    path_parameters: frozenset[str] = frozenset()
    """The names in the view's address that its methods take, such as `pk`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.path_parameters = _path_parameters(cls)

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """As DRF's. It asks for credentials itself, so a project's middleware must not ask for a login before."""
        return login_not_required(super().as_view(**initkwargs))  # as DRF does, from 3.16 on

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """As DRF's. Parameters of the prefix below which the project includes the API are dropped."""
        own = {name: value for name, value in kwargs.items() if name in self.path_parameters}
        with audit.acting("", Via.API), tracing.of_request(request.headers.get("traceparent")):
            return super().dispatch(request, **own)

    def get_authenticators(self) -> list[Any]:
        """One of each class: the view's own, or those of the setting `AUTHENTICATION_CLASSES`."""
        own = self.authentication_classes
        return [found() for found in (authentication_classes() if own is None else own)]

    def get_authenticate_header(self, request: Request) -> str:
        """For `WWW-Authenticate`: that of the first class that has one. If none has, DRF answers 403, not 401."""
        headers = (one.authenticate_header(request) for one in self.get_authenticators())
        return next(filter(None, headers), "")

    def permission_denied(self, request: Request, message: str | None = None, code: str | None = None) -> NoReturn:
        """As DRF's, but credentials that no class knows are not valid, rather than missing."""
        if not request.successful_authenticator and "Authorization" in request.headers:
            raise AuthenticationFailed("The credentials in the header Authorization are not valid here.")
        super().permission_denied(request, message or None, code)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Also refuse unknown parameters, and a chunked body, which DRF would read as an empty one."""
        super().initial(request, *args, **kwargs)
        audit.identify(_caller(request))
        known = self.parameters if request.method in ("GET", "HEAD") else []
        if unknown := sorted(set(request.query_params) - set(known)):
            text = (
                f"Unknown parameter; the parameters here are {', '.join(known)}."
                if known
                else "There are no parameters here."
            )
            raise ValidationError({name: [text] for name in unknown})
        if "Transfer-Encoding" in request.headers and not request.META.get("CONTENT_LENGTH"):
            raise problems.LengthRequired("Send the body with a Content-Length, not in chunks.")

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        """Also keep the answer out of every cache, such as the one of the project's cache middleware."""
        add_never_cache_headers(response)
        return super().finalize_response(request, response, *args, **kwargs)

    def get_exception_handler(self) -> Any:
        """Problem documents."""
        return problems.handle

    def user(self, request: Request) -> str:
        """The key of the caller's user. Only this user may go on with the rows that this user is given."""
        return str(request.user.pk)

    def body(self, request: Request, shape: type[shapes.Body]) -> dict[str, Any]:
        """The body's validated fields. Raises `ValidationError` naming the field."""
        if request.data is None:
            raise ValidationError({"non_field_errors": ["This field may not be null."]})
        return dict(shapes.shared(shape).run_validation(request.data))
