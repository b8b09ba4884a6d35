"""Coupons: made and changed through the verb, so that what was redeemed keeps its terms."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display

from accounts.admin_rows import OperatorAdmin, ReadOnlyAdmin, ReadOnlyInline, operator_of
from accounts.errors import DomainError
from billing import couponing
from billing.discounts import words_of
from billing.models import Coupon, CouponRedemption


class CouponAdminForm(forms.ModelForm):
    class Meta:
        model = Coupon
        fields = (
            "code",
            "name",
            "percent",
            "amount",
            "currency",
            "duration",
            "periods",
            "expires_at",
            "most_redemptions",
            "most_per_organisation",
            "archived_at",
        )
        help_texts = {
            "code": "What customers type: letters, digits and dashes.",
            "name": "What stands on the bill.",
            "percent": "Either a percentage, 25 for 25% off.",
            "amount": "Or an amount per period, in dollars, euros and so on.",
            "currency": "Of the amount: three capital letters. Empty for a percentage.",
            "periods": "Only where it is for a number of periods.",
            "expires_at": "Until when it may be redeemed. Empty: no end.",
            "most_redemptions": "In all. Empty: no limit.",
        }

    def clean(self) -> dict[str, Any]:
        """Says what the verb would refuse, and writes nothing."""
        cleaned = super().clean() or {}
        if not self.errors:
            values = {name: value for name, value in cleaned.items() if name in self.fields}
            try:
                couponing.require_sound(Coupon(pk=self.instance.pk, **values), self._known())
            except DomainError as error:
                raise forms.ValidationError(error.sentence, code=error.code) from error
        return cleaned

    def _known(self) -> Coupon | None:
        return Coupon.objects.filter(pk=self.instance.pk).first()


class Redemptions(ReadOnlyInline):
    model = CouponRedemption
    fields = readonly_fields = ("organisation", "subscription", "redeemed_at", "starts_at", "withdrawn_at")


@admin.register(CouponRedemption)
class CouponRedemptionAdmin(ReadOnlyAdmin):
    list_display = ("coupon", "organisation", "redeemed_at", "starts_at", "withdrawn_at")
    list_select_related = ("coupon", "organisation")
    search_fields = ("coupon__code", "organisation__name")
    fields = readonly_fields = (
        "public_id",
        "coupon",
        "organisation",
        "subscription",
        "redeemed_at",
        "starts_at",
        "withdrawn_at",
    )
    actions_detail = ("take_away",)

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.change_couponredemption")

    @action(description="Take away…", url_path="withdrawal", permissions=("act",))
    def take_away(self, request: HttpRequest, object_id: str) -> HttpResponse:
        redemption = get_object_or_404(CouponRedemption.objects.select_related("coupon"), pk=object_id)
        if request.method != "POST" or request.POST.get("confirmed") != "yes":
            context = {
                **self.admin_site.each_context(request),
                "title": f"Take {redemption.coupon} away?",
                "opts": self.opts,
                "rows": [redemption.organisation],
                "consequence": "The running period keeps it; those after it are charged in full.",
                "label": "Take it away",
            }
            return TemplateResponse(request, "accounts/admin_confirm.html", context)
        try:
            couponing.withdraw_redemption(redemption, now=timezone.now(), actor=operator_of(request), request=request)
            messages.success(request, f"{redemption.coupon} is taken away.")
        except DomainError as error:
            messages.error(request, error.sentence)
        return redirect(reverse("admin:billing_couponredemption_change", args=[redemption.pk]))


@admin.register(Coupon)
class CouponAdmin(OperatorAdmin):
    list_display = (
        "code",
        "name",
        "takes_off",
        "duration",
        "redeemed",
        "most_redemptions",
        "expires_at",
        "archived_at",
    )
    search_fields = ("code", "name")
    form = CouponAdminForm
    inlines = (Redemptions,)

    def get_inlines(self, request: HttpRequest, obj: Coupon | None) -> Any:
        return self.inlines if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Coupon, form: forms.ModelForm, change: bool) -> None:
        couponing.save_coupon(obj, actor=operator_of(request), request=request)

    @display(description="Takes off")
    def takes_off(self, coupon: Coupon) -> str:
        return words_of(coupon)
