"""Buying credit: an amount, the payment at Stripe, and the page that is its receipt once it is paid."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import MemberRequest, member_required
from accounts.enqueue import enqueue_on_commit
from accounts.errors import DomainError
from accounts.models import Capability
from accounts.pages import render_page, wants_part
from billing import stripe_gateway, tasks, top_ups
from billing.models import CreditPurchase, PurchaseState
from billing.money import format_money, minor_to_decimal
from billing.top_up_amounts import AmountRefused, Amounts, require_buyable

NOT_READY = "Stripe does not answer right now. Nothing was charged; please try again in a minute."
NOT_POSSIBLE = "The payment could not be opened. Nothing was charged; please ask your provider."

OWN_AMOUNT = "own"


class TopUpForm(forms.Form):
    """One of the usual amounts, or another."""

    preset = forms.ChoiceField(label="Amount", widget=forms.RadioSelect)
    amount = forms.DecimalField(
        label="Another amount",
        required=False,
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal", "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, amounts: Amounts, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.amounts = amounts
        preset, amount = self.fields["preset"], self.fields["amount"]
        assert isinstance(preset, forms.ChoiceField)
        usual = [(str(minor), format_money(minor, amounts.currency)) for minor in amounts.presets]
        preset.choices = [*usual, (OWN_AMOUNT, "Another amount")]
        preset.initial = usual[1][0]
        least, most = (format_money(minor, amounts.currency) for minor in (amounts.least, amounts.most))
        amount.help_text = f"In {amounts.currency}, from {least} to {most}."

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("preset") == OWN_AMOUNT and "amount" in values:
            try:
                if values["amount"] is None:
                    raise AmountRefused("Enter an amount.")
                require_buyable(values["amount"], self.amounts)
            except AmountRefused as refusal:
                self.add_error("amount", refusal.sentence)
        return values

    @property
    def wanted(self) -> Decimal:
        if self.cleaned_data["preset"] == OWN_AMOUNT:
            own: Decimal = self.cleaned_data["amount"]
            return own
        return minor_to_decimal(int(self.cleaned_data["preset"]), self.amounts.currency)


@member_required(Capability.MANAGE_BILLING)
@require_http_methods(["GET", "HEAD", "POST"])
def credit_purchase_create(request: MemberRequest) -> HttpResponse:
    """The choice of an amount. The purchase is a row before Stripe is asked, so that a lost answer loses nothing."""
    now = timezone.now()
    amounts = top_ups.amounts_for(request.organisation, now)
    form = TopUpForm(request.POST or None, amounts=amounts)
    if request.method == "POST" and form.is_valid():
        try:
            purchase = top_ups.start_purchase(
                request.organisation, form.wanted, now=now, actor=request.user, request=request
            )
        except DomainError as error:
            messages.error(request, error.sentence)
            return redirect("billing:credits", slug=request.organisation.slug)
        _open_checkout(request, purchase)
        return redirect("billing:credit_purchase", slug=request.organisation.slug, public_id=purchase.public_id)
    context = {"active_nav": "credits", "form": form, "are_on": top_ups.top_ups_are_on()}
    return render_page(request, "billing/credit_purchase_create.html", context)


@member_required()
@require_safe
def credit_purchase(request: MemberRequest, public_id: str) -> HttpResponse:
    """Its state, and the receipt. While it is undecided the page asks again by itself."""
    purchase = _purchase(request, public_id)
    if purchase.is_undecided and not wants_part(request) and request.membership.may(Capability.MANAGE_BILLING):
        enqueue_on_commit(tasks.check_credit_purchase, purchase.pk)
    return render_page(request, "billing/credit_purchase.html", _context(request, purchase), part="state")


@member_required(Capability.MANAGE_BILLING)
@require_safe
def credit_purchase_payment(request: MemberRequest, public_id: str) -> HttpResponse:
    """To the page at Stripe where it is paid."""
    purchase = _purchase(request, public_id)
    url = _open_checkout(request, purchase) if purchase.state == PurchaseState.OPEN and purchase.stripe_id else ""
    if url:
        return HttpResponseRedirect(url)
    return redirect("billing:credit_purchase", slug=request.organisation.slug, public_id=public_id)


@member_required(Capability.MANAGE_BILLING)
@require_POST
def credit_purchase_cancellation(request: MemberRequest, public_id: str) -> HttpResponse:
    purchase = _purchase(request, public_id)
    try:
        top_ups.cancel_purchase(purchase, now=timezone.now(), actor=request.user, request=request)
        messages.success(request, "The purchase is cancelled. Nothing was charged.")
    except DomainError as error:
        messages.error(request, error.sentence)
    except stripe_gateway.StripeFailure:
        messages.warning(request, "Stripe does not answer right now. Please try again in a minute.")
    return redirect("billing:credit_purchase", slug=request.organisation.slug, public_id=public_id)


def _open_checkout(request: MemberRequest, purchase: CreditPurchase) -> str:
    """The address to pay at; empty, with a message, where Stripe gave none."""
    parts = {"slug": request.organisation.slug, "public_id": purchase.public_id}
    page_url = request.build_absolute_uri(reverse("billing:credit_purchase", kwargs=parts))
    try:
        return top_ups.open_checkout(purchase, page_url=page_url)
    except stripe_gateway.TemporaryFailure:
        messages.warning(request, NOT_READY)
    except stripe_gateway.StripeFailure:
        messages.error(request, NOT_POSSIBLE)
    return ""


def _purchase(request: MemberRequest, public_id: str) -> CreditPurchase:
    rows = CreditPurchase.objects.for_organisation(request.organisation).select_related("grant")
    found: CreditPurchase = get_object_or_404(rows, public_id=public_id)
    return found


def _context(request: MemberRequest, purchase: CreditPurchase) -> dict[str, Any]:
    return {
        "active_nav": "credits",
        "zone": request.organisation.zone,
        "purchase": purchase,
        "amount": minor_to_decimal(purchase.amount_minor, purchase.currency),
        "kept_minor": purchase.refunded_minor - purchase.taken_back_minor,
        "can_be_paid": purchase.state == PurchaseState.OPEN and bool(purchase.stripe_id),
        "seller": purchase.parties["seller"],
        "buyer": purchase.parties["buyer"],
    }
