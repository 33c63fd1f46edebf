"""The endpoints of alert rules."""

from __future__ import annotations

from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import locks, outbox
from reportqueue.api import filters, pagination
from reportqueue.api.base import ApiView
from reportqueue.api.serializers.alerts import AlertRuleSerializer, TestBody
from reportqueue.api.serializers.queue import all_shown, shown
from reportqueue.models import AlertRule
from reportqueue.models.alert import LOCK


class AlertRulesView(ApiView):
    """`alert-rules/`: list and add alert rules."""

    scopes = {"GET": "view_alertrule", "POST": "add_alertrule"}
    parameters = pagination.PARAMETERS

    def get(self, request: Request) -> Response:
        """A page, in the order in which they were added."""
        page = filters.alert_rule_page(request)
        return Response(page.answer("alert_rules", all_shown(AlertRuleSerializer, page.rows)))

    def post(self, request: Request) -> Response:
        """201 with the rule."""
        with locks.bounded(lock=LOCK):  # no other call takes the name meanwhile
            form = AlertRuleSerializer(data=request.data)
            form.is_valid(raise_exception=True)
            return Response(shown(AlertRuleSerializer, form.save()), status=201)


class AlertRuleView(ApiView):
    """`alert-rules/{id}/`: one alert rule."""

    scopes = {"GET": "view_alertrule", "PATCH": "change_alertrule", "DELETE": "delete_alertrule"}

    def get(self, request: Request, pk: int) -> Response:
        """The rule."""
        return Response(shown(AlertRuleSerializer, get_object_or_404(AlertRule, pk=pk)))

    def patch(self, request: Request, pk: int) -> Response:
        """The rule as changed. If it is about something else now, it forgets what it has found."""
        with locks.bounded(lock=LOCK):
            found = get_object_or_404(AlertRule.objects.select_for_update(), pk=pk)
            form = AlertRuleSerializer(found, data=request.data, partial=True)
            form.is_valid(raise_exception=True)
            return Response(shown(AlertRuleSerializer, form.save()))

    def delete(self, request: Request, pk: int) -> Response:
        """204; what it has found is forgotten."""
        with locks.bounded(lock=LOCK):
            get_object_or_404(AlertRule.objects.select_for_update(), pk=pk).delete()
        return Response(status=204)


class TestView(ApiView):
    """`alert-rules/{id}/test/`: a test message to the recipients of this rule."""

    scopes = {"POST": "change_alertrule"}

    def post(self, request: Request, pk: int) -> Response:
        """202 with the rule; `test_wanted` is true until the message is sent, and `problem` says why it is not."""
        self.body(request, TestBody)
        return Response(shown(AlertRuleSerializer, outbox.request_test(pk)), status=202)
