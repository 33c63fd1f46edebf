"""The endpoints of webhook subscriptions, and of the deliveries of events to them."""

from __future__ import annotations

from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import bounds, locks, outbox
from reportqueue.api import filters, pagination
from reportqueue.api.base import ApiView
from reportqueue.api.serializers import outbox as shapes
from reportqueue.api.serializers.queue import all_shown, shown
from reportqueue.models import EventDelivery, WebhookSubscription


class SubscriptionsView(ApiView):
    """`webhook-subscriptions/`: list and add subscriptions."""

    scopes = {"GET": "view_webhooksubscription", "POST": "add_webhooksubscription"}
    parameters = pagination.PARAMETERS

    def get(self, request: Request) -> Response:
        """A page, in the order in which they were added."""
        page = filters.subscription_page(request)
        return Response(page.answer("subscriptions", all_shown(shapes.SubscriptionSerializer, page.rows)))

    def post(self, request: Request) -> Response:
        """201 with the subscription and its secret, which is not shown again."""
        form = shapes.SubscriptionSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        with locks.bounded():
            made = form.save()
            made.refresh_from_db()
        answer = {**shown(shapes.SubscriptionSerializer, made), "secret": outbox.secret(made)}
        return Response(answer, status=201)


class SubscriptionView(ApiView):
    """`webhook-subscriptions/{id}/`: one subscription."""

    scopes = {
        "GET": "view_webhooksubscription",
        "PATCH": "change_webhooksubscription",
        "DELETE": "delete_webhooksubscription",
    }

    def get(self, request: Request, pk: int) -> Response:
        """The subscription."""
        return Response(
            shown(shapes.SubscriptionSerializer, get_object_or_404(WebhookSubscription.objects.of_people(), pk=pk))
        )

    def patch(self, request: Request, pk: int) -> Response:
        """The subscription as changed. One that is enabled again begins without failures."""
        with locks.bounded():
            found = get_object_or_404(WebhookSubscription.objects.of_people().select_for_update(), pk=pk)
            form = shapes.SubscriptionSerializer(found, data=request.data, partial=True)
            form.is_valid(raise_exception=True)
            return Response(shown(shapes.SubscriptionSerializer, form.save()))

    def delete(self, request: Request, pk: int) -> Response:
        """204; what is still to be delivered to it is not."""
        with locks.bounded():
            get_object_or_404(WebhookSubscription.objects.of_people().select_for_update(), pk=pk).delete()
        return Response(status=204)


class RotateView(ApiView):
    """`webhook-subscriptions/{id}/rotate/`: a new secret."""

    scopes = {"POST": "change_webhooksubscription"}

    def post(self, request: Request, pk: int) -> Response:
        """The secret, which is not shown again, and until when events are signed with the earlier one, too."""
        self.body(request, shapes.RotateBody)
        secret = outbox.rotate(pk)
        found = get_object_or_404(WebhookSubscription.objects.of_people(), pk=pk)
        return Response({**shown(shapes.SubscriptionSerializer, found), "secret": secret})


class TestView(ApiView):
    """`webhook-subscriptions/{id}/test/`: a test event for this subscription alone."""

    scopes = {"POST": "change_webhooksubscription"}

    def post(self, request: Request, pk: int) -> Response:
        """202 with its delivery; `webhook-deliveries/{id}/` says what came of it."""
        self.body(request, shapes.TestBody)
        made = outbox.send_test(pk)
        return Response(_delivery(made.pk), status=202)


class DeliveriesView(ApiView):
    """`webhook-deliveries/`: list deliveries."""

    scopes = {"GET": "view_eventdelivery"}
    parameters = filters.DELIVERY_PARAMETERS

    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        page = filters.delivery_page(request)
        return Response(page.answer("deliveries", all_shown(shapes.DeliverySerializer, page.rows)))


class DeliveryView(ApiView):
    """`webhook-deliveries/{id}/`: one delivery."""

    scopes = {"GET": "view_eventdelivery"}

    def get(self, request: Request, pk: int) -> Response:
        """The delivery with the event's data and its attempts, the newest at the end."""
        return Response(_delivery(pk))


class RedeliverView(ApiView):
    """`webhook-deliveries/{id}/redeliver/`: have it sent again."""

    scopes = {"POST": "redeliver_eventdelivery"}

    def post(self, request: Request, pk: int) -> Response:
        """202 with the delivery, which is pending. 409 if it is pending already."""
        self.body(request, shapes.RedeliverBody)
        outbox.redeliver_one(pk)
        return Response(_delivery(pk), status=202)


def _delivery(pk: int) -> dict[str, object]:
    found = get_object_or_404(EventDelivery.objects.to_people().select_related("event"), pk=pk)
    attempts = list(found.log.order_by("-id")[: bounds.MAX_ATTEMPTS_SHOWN])
    return {
        **shown(shapes.DeliverySerializer, found),
        "data": found.event.data,
        "log": all_shown(shapes.AttemptSerializer, reversed(attempts)),
    }
