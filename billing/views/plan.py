"""The plan of an organisation: what it is, choosing one, changing it, ending it."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.models import Capability
from accounts.pages import render_page
from billing import plan_words, schedules, subscribing
from billing.models import BillingDetails, Subscription


@member_required()
@require_safe
def plan(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    subscription = subscribing.current_subscription(request.organisation, now)
    offers = plan_words.offers()
    context: dict[str, Any] = {
        "active_nav": "plan",
        "subscription": subscription,
        "details": BillingDetails.objects.filter(organisation=request.organisation).first(),
        "zone": subscription.zone if subscription else request.organisation.zone,
    }
    if subscription:
        version = schedules.version_at(subscription, now)
        pending = schedules.pending_phase(subscription, now)
        context |= {
            "current": plan_words.offer_of(version),
            "period": schedules.current_period(subscription, now),
            "pending": pending,
            "pending_offer": plan_words.offer_of(pending.plan_version) if pending else None,
        }
        offers = [offer for offer in offers if offer.version != version and _fits(offer, subscription)]
    return render_page(request, "billing/plan.html", {**context, "offers": offers})


@member_required(Capability.MANAGE_BILLING)
def subscription_create(request: MemberRequest) -> HttpResponse:
    """Confirms, then takes, the organisation's first plan."""
    offer = _offer_named(request)
    if request.method == "POST":
        return _perform(
            request,
            lambda: subscribing.subscribe(
                request.organisation, offer.version, now=timezone.now(), actor=request.user, request=request
            ),
            f"You are on {offer.plan.name} now.",
            done="billing:overview",
        )
    return _confirm(request, "billing/subscription_create.html", offer=offer)


@member_required(Capability.MANAGE_BILLING)
def plan_change(request: MemberRequest) -> HttpResponse:
    """Confirms, then makes, a change of plan from the next period on; the plan in force takes a coming change back."""
    subscription = _subscription(request)
    now = timezone.now()
    offer = _offer_named(request, in_force=plan_words.offer_of(schedules.version_at(subscription, now)))
    if request.method == "POST":
        return _perform(
            request,
            lambda: subscribing.change_plan(subscription, offer.version, now=now, actor=request.user, request=request),
            f"Your plan will be {offer.plan.name}.",
        )
    return _confirm(
        request,
        "billing/plan_change.html",
        offer=offer,
        period=schedules.current_period(subscription, now),
        current=plan_words.offer_of(schedules.version_at(subscription, now)),
        zone=subscription.zone,
    )


@member_required(Capability.MANAGE_BILLING)
def subscription_cancellation(request: MemberRequest) -> HttpResponse:
    subscription = _subscription(request)
    now = timezone.now()
    if request.method == "POST":
        return _perform(
            request,
            lambda: subscribing.cancel(subscription, now=now, actor=request.user, request=request),
            "Your plan ends with this period. Until then everything works as before.",
        )
    return _confirm(
        request,
        "billing/subscription_cancellation.html",
        period=schedules.current_period(subscription, now),
        zone=subscription.zone,
    )


@member_required(Capability.MANAGE_BILLING)
@require_POST
def subscription_resumption(request: MemberRequest) -> HttpResponse:
    subscription = _subscription(request)
    return _perform(
        request,
        lambda: subscribing.resume(subscription, now=timezone.now(), actor=request.user, request=request),
        "Your plan goes on.",
    )


def _fits(offer: plan_words.PlanOffer, subscription: Subscription) -> bool:
    return (offer.version.currency, offer.version.cadence) == (subscription.currency, subscription.cadence)


def _subscription(request: MemberRequest) -> Subscription:
    subscription = subscribing.current_subscription(request.organisation, timezone.now())
    if subscription is None:
        raise Http404("There is no plan to change.")
    return subscription


def _offer_named(request: MemberRequest, *, in_force: plan_words.PlanOffer | None = None) -> plan_words.PlanOffer:
    """The plan named in the address, among those on offer and the one in force."""
    key = request.GET.get("plan", "")
    choices = [*([in_force] if in_force else []), *plan_words.offers()]
    offer = next((choice for choice in choices if choice.plan.key == key), None)
    if offer is None:
        raise Http404("There is no such plan.")
    return offer


def _perform(
    request: MemberRequest, act: Callable[[], Any], success: str, *, done: str = "billing:plan"
) -> HttpResponse:
    try:
        act()
    except DomainError as error:
        messages.error(request, error.sentence)
        return redirect("billing:plan", slug=request.organisation.slug)
    messages.success(request, success)
    return redirect(done, slug=request.organisation.slug)


def _confirm(request: MemberRequest, template: str, **context: Any) -> HttpResponse:
    cancel_url = reverse("billing:plan", kwargs={"slug": request.organisation.slug})
    return render_page(request, template, {"active_nav": "plan", "cancel_url": cancel_url, **context})
