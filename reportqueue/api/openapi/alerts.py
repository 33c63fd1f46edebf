"""The calls of alert rules."""

from __future__ import annotations

from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import DELETED, PAGES, Answer, Operation, Operations, page_of
from reportqueue.api.serializers import alerts as shapes
from reportqueue.api.views import alerts

TAG = "Events"
RULE = Answer("The rule.", (shapes.AlertRuleSerializer,), examples.ALERT_RULE)
OPERATIONS: Operations = {
    alerts.AlertRulesView: {
        "GET": Operation(
            name="list_alert_rules",
            tag=TAG,
            summary="List alert rules",
            parameters=PAGES,
            answers={
                200: page_of(
                    "alert_rules",
                    examples.ALERT_RULE,
                    "A page, in the order in which they were added.",
                    forms.AlertRulePage,
                )
            },
        ),
        "POST": Operation(
            name="add_alert_rule",
            tag=TAG,
            summary="Add an alert rule",
            text="It needs a name that no other rule has, and at least one address or channel. Channels are names of "
            "the setting `ALERT_CHANNELS`.",
            bodies=(shapes.AlertRuleSerializer,),
            examples={
                "failures": {"name": "Failures to the desk", "condition": "failed", "emails": ["desk@example.com"]}
            },
            answers={201: RULE},
        ),
    },
    alerts.AlertRuleView: {
        "GET": Operation(name="get_alert_rule", tag=TAG, summary="Read an alert rule", answers={200: RULE}),
        "PATCH": Operation(
            name="change_alert_rule",
            tag=TAG,
            summary="Change an alert rule",
            text="Only the fields that the body names are written. A rule that is about something else now forgets "
            "what it has found.",
            bodies=(shapes.AlertRuleSerializer,),
            examples={"disable it": {"enabled": False}},
            answers={200: RULE},
        ),
        "DELETE": Operation(
            name="delete_alert_rule",
            tag=TAG,
            summary="Delete an alert rule",
            answers={204: DELETED},
        ),
    },
    alerts.TestView: {
        "POST": Operation(
            name="test_alert_rule",
            tag=TAG,
            summary="Send a test message",
            text="The scheduler sends it within seconds, to the recipients of this rule alone.",
            bodies=(shapes.TestBody,),
            examples={"nothing": {}},
            answers={
                202: Answer(
                    "The rule. `test_wanted` is true until the message is sent; `problem` says why it is not.",
                    (shapes.AlertRuleSerializer,),
                    examples.ALERT_RULE | {"test_wanted": True},
                )
            },
            refusals=("delivery-refused",),
        ),
    },
}
