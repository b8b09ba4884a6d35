"""The address that Stripe posts events to. It checks, stores and answers; applying happens in a task."""

import logging

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.access import public
from accounts.enqueue import enqueue_on_commit
from billing import stripe_gateway, tasks
from billing.stripe_inbox import store_event

logger = logging.getLogger(__name__)


@csrf_exempt
@require_POST
@public
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Answers 200 once an event is stored, also for one that is known; 400 for what Stripe did not sign for us."""
    if not settings.STRIPE_WEBHOOK_SECRETS:
        return _refusal("Webhooks are not configured: set STRIPE_WEBHOOK_SECRET.", status=503)
    try:
        event = stripe_gateway.read_webhook(request.body, request.headers.get("Stripe-Signature"))
    except stripe_gateway.BadSignature as error:
        logger.warning("A webhook was refused: %s", error)
        return _refusal(str(error))
    if event.is_live != stripe_gateway.expects_live_events():
        return _refusal("This event belongs to the other mode (test or live).")
    if store_event(event):
        enqueue_on_commit(tasks.apply_stripe_event, event.id)
    return JsonResponse({"received": event.id})


def _refusal(sentence: str, *, status: int = 400) -> HttpResponse:
    return JsonResponse({"title": sentence, "status": status, "code": "webhook_refused"}, status=status)
