"""The plan of an organisation: what it is, choosing one, changing it, ending it."""

from collections.abc import Callable
from datetime import datetime
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
from billing import change_previews, discounts, plan_words, schedules, subscribing
from billing.bill_sections import sections_of
from billing.forms import CouponForm
from billing.models import BillingDetails, Subscription


@member_required()
@require_safe
def plan(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    subscription = subscribing.current_subscription(request.organisation, now)
    offers = plan_words.offers(request.organisation)
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
            "steps": _steps(subscription, now),
            "discounts": _discounts(subscription, now),
            "coupon_form": CouponForm(),
            "rest": schedules.rest_at(subscription, now),
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
    trial_days = subscribing.trial_days_of(request.organisation, offer.version)
    return _confirm(request, "billing/subscription_create.html", offer=offer, trial_days=trial_days)


@member_required(Capability.MANAGE_BILLING)
def plan_change(request: MemberRequest) -> HttpResponse:
    """Shows what the change would cost now and at the end of the period, then makes it."""
    subscription = _subscription(request)
    now = timezone.now()
    offer = _offer_named(request)
    if request.method == "POST":
        at_once = _is_at_once(request)
        when = "is" if at_once else "will be"
        return _perform(
            request,
            lambda: subscribing.change_plan(
                subscription, offer.version, now=now, at_once=at_once, actor=request.user, request=request
            ),
            f"Your plan {when} {offer.plan.name}.",
        )
    try:
        preview = change_previews.preview_change(subscription, offer.version, now)
    except DomainError as error:
        messages.error(request, error.sentence)
        return redirect("billing:plan", slug=request.organisation.slug)
    return _confirm(
        request,
        "billing/plan_change.html",
        offer=offer,
        preview=preview,
        rows=_rows(preview),
        subscription=subscription,
        current=plan_words.offer_of(schedules.version_at(subscription, now)),
        zone=subscription.zone,
    )


@member_required(Capability.MANAGE_BILLING)
@require_POST
def plan_change_withdrawal(request: MemberRequest) -> HttpResponse:
    """Takes a change back that is still to come."""
    subscription = _subscription(request)
    return _perform(
        request,
        lambda: subscribing.withdraw_change(subscription, now=timezone.now(), actor=request.user, request=request),
        "The change is taken back. Your plan stays as it is.",
    )


@member_required(Capability.MANAGE_BILLING)
def subscription_cancellation(request: MemberRequest) -> HttpResponse:
    subscription = _subscription(request)
    now = timezone.now()
    if request.method == "POST":
        at_once = _is_at_once(request)
        success = (
            "Your plan ends at the next quarter hour. The last invoice follows."
            if at_once
            else "Your plan ends with this period. Until then everything works as before."
        )
        return _perform(
            request,
            lambda: subscribing.cancel(subscription, now=now, at_once=at_once, actor=request.user, request=request),
            success,
        )
    return _confirm(
        request,
        "billing/subscription_cancellation.html",
        preview=change_previews.preview_cancellation(subscription, now),
        rest=schedules.rest_at(subscription, now),
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


def _steps(subscription: Subscription, now: datetime) -> list[dict[str, Any]]:
    """Plan by plan, what held since when; versions of one plan are one step."""
    steps: list[dict[str, Any]] = []
    for phase in subscription.phases.select_related("plan_version__plan").filter(starts_at__lte=now):
        plan = phase.plan_version.plan
        if not steps or steps[-1]["plan"] != plan:
            steps.append({"plan": plan, "since": phase.starts_at})
    return steps[::-1]


def _discounts(subscription: Subscription, now: datetime) -> list[dict[str, Any]]:
    """Coupons that take something off the running period, and for how many more."""
    period = schedules.whole_period(subscription, now)
    redemptions = subscription.redemptions.select_related("coupon")
    return [
        {
            "coupon": redemption.coupon,
            "words": discounts.words_of(redemption.coupon),
            "left": discounts.periods_left(redemption, subscription, period),
            "ends": redemption.withdrawn_at is not None,
        }
        for redemption in redemptions
        if discounts.covers(redemption, subscription, period)
    ]


def _rows(preview: change_previews.ChangePreview) -> list[dict[str, Any]]:
    """What the bill would say, section by section, in the three cases."""
    bills = {
        "unchanged": preview.unchanged,
        "at_period_end": preview.at_period_end.bill,
        "at_once": preview.at_once.bill,
    }
    totals = {
        case: {section.title: section.total_minor for section in sections_of(bill.lines)}
        for case, bill in bills.items()
    }
    titles = dict.fromkeys(title for sections in totals.values() for title in sections)
    rows = [{"what": title, **{case: totals[case].get(title, 0) for case in bills}} for title in titles]
    return [*rows, {"what": "Total before credit", **{case: bill.total_minor for case, bill in bills.items()}}]


def _fits(offer: plan_words.PlanOffer, subscription: Subscription) -> bool:
    return (offer.version.currency, offer.version.cadence) == (subscription.currency, subscription.cadence)


def _subscription(request: MemberRequest) -> Subscription:
    subscription = subscribing.current_subscription(request.organisation, timezone.now())
    if subscription is None:
        raise Http404("There is no plan to change.")
    return subscription


def _is_at_once(request: MemberRequest) -> bool:
    return request.POST.get("when") == "now"


def _offer_named(request: MemberRequest) -> plan_words.PlanOffer:
    """The plan named in the address, among those on offer."""
    key = request.GET.get("plan", "")
    offer = next((choice for choice in plan_words.offers(request.organisation) if choice.plan.key == key), None)
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
