"""Redeeming a coupon by its code."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.models import Capability
from billing.couponing import redeem
from billing.forms import CouponForm
from billing.subscribing import SubscriptionOver, current_subscription


@member_required(Capability.MANAGE_BILLING)
@require_POST
def coupon_redemption(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    form = CouponForm(request.POST)
    try:
        subscription = current_subscription(request.organisation, now)
        if subscription is None:
            raise SubscriptionOver("Choose a plan first. The coupon then comes off its bills.")
        code = form.cleaned_data["code"] if form.is_valid() else ""
        redemption = redeem(subscription, code, now=now, actor=request.user, request=request)
        messages.success(request, f"{redemption.coupon.name} comes off your bills from this period on.")
    except DomainError as error:
        messages.error(request, error.sentence)
    return redirect("billing:plan", slug=request.organisation.slug)
