"""The calls of webhook subscriptions and deliveries."""

from __future__ import annotations

from reportqueue.api.filters import DeliveryFilter
from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import DELETED, PAGES, Answer, Operation, Operations, page_of
from reportqueue.api.openapi.parameters import of_filters
from reportqueue.api.serializers import outbox as shapes
from reportqueue.api.views import outbox

TAG = "Events"
FILTERS = {"subscription_id": "To this subscription.", "status": "How far it is."}
SUBSCRIPTION = Answer("The subscription, without its secret.", (shapes.SubscriptionSerializer,), examples.SUBSCRIPTION)
SECRET = Answer("The subscription with its secret, which is not shown again.", (forms.NewSecret,), examples.SECRET)
QUEUED = Answer("The delivery, which is pending.", (forms.DeliveryWithLog,), examples.PENDING_DELIVERY)
OPERATIONS: Operations = {
    outbox.SubscriptionsView: {
        "GET": Operation(
            name="list_webhook_subscriptions",
            tag=TAG,
            summary="List webhook subscriptions",
            parameters=PAGES,
            answers={
                200: page_of(
                    "subscriptions",
                    examples.SUBSCRIPTION,
                    "A page, in the order in which they were added.",
                    forms.SubscriptionPage,
                )
            },
        ),
        "POST": Operation(
            name="add_webhook_subscription",
            tag=TAG,
            summary="Add a webhook subscription",
            text="The address must be public, and begin with https://, unless the settings allow others.",
            bodies=(shapes.SubscriptionSerializer,),
            examples={"failures": {"url": "https://example.com/hook", "event_types": ["report.failed"]}},
            answers={201: SECRET},
        ),
    },
    outbox.SubscriptionView: {
        "GET": Operation(
            name="get_webhook_subscription",
            tag=TAG,
            summary="Read a webhook subscription",
            answers={200: SUBSCRIPTION},
        ),
        "PATCH": Operation(
            name="change_webhook_subscription",
            tag=TAG,
            summary="Change a webhook subscription",
            text="Only the fields that the body names are written. One that is enabled again begins without failures.",
            bodies=(shapes.SubscriptionSerializer,),
            examples={"enable it": {"enabled": True}},
            answers={200: SUBSCRIPTION},
        ),
        "DELETE": Operation(
            name="delete_webhook_subscription",
            tag=TAG,
            summary="Delete a webhook subscription",
            text="What waits to be sent to it is not sent.",
            answers={204: DELETED},
        ),
    },
    outbox.RotateView: {
        "POST": Operation(
            name="rotate_webhook_secret",
            tag=TAG,
            summary="Make a new secret",
            text="Until `previous_until`, events are signed with the earlier secret, too.",
            bodies=(shapes.RotateBody,),
            examples={"nothing": {}},
            answers={200: SECRET},
        ),
    },
    outbox.TestView: {
        "POST": Operation(
            name="test_webhook_subscription",
            tag=TAG,
            summary="Send a test event",
            text="It goes to this subscription alone.",
            bodies=(shapes.TestBody,),
            examples={"nothing": {}},
            answers={202: QUEUED},
            refusals=("delivery-refused",),
        ),
    },
    outbox.DeliveriesView: {
        "GET": Operation(
            name="list_webhook_deliveries",
            tag=TAG,
            summary="List webhook deliveries",
            parameters=(*of_filters(DeliveryFilter, FILTERS), *PAGES),
            answers={200: page_of("deliveries", examples.DELIVERY, "A page, the newest first.", forms.DeliveryPage)},
        ),
    },
    outbox.DeliveryView: {
        "GET": Operation(
            name="get_webhook_delivery",
            tag=TAG,
            summary="Read a webhook delivery with its attempts",
            answers={200: Answer("The delivery.", (forms.DeliveryWithLog,), examples.DELIVERY_WITH_LOG)},
        ),
    },
    outbox.RedeliverView: {
        "POST": Operation(
            name="redeliver_webhook",
            tag=TAG,
            summary="Send a webhook again",
            bodies=(shapes.RedeliverBody,),
            examples={"nothing": {}},
            answers={202: QUEUED},
            refusals=("delivery-refused",),
        ),
    },
}
