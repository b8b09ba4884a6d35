"""What operators do to one subscription: each act has a form, a preview where it costs something, and is audited."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.admin_rows import operator_of
from accounts.errors import DomainError
from billing import change_previews, couponing, prepaid, resting, subscribing
from billing.models import PlanVersion, PrepaidTerms, Subscription
from billing.money import format_exact

WHEN = [("period_end", "When the period ends"), ("now", "Now")]


class ActForm(forms.Form):
    """What the operator says about an act on a subscription."""

    def __init__(self, *args: Any, subscription: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subscription = subscription


class ChangeForm(ActForm):
    plan_version = forms.ModelChoiceField(
        PlanVersion.objects.none(), label="Plan version", widget=UnfoldAdminSelectWidget
    )
    when = forms.ChoiceField(label="When", choices=WHEN, initial="period_end", widget=UnfoldAdminRadioSelectWidget)

    def __init__(self, *args: Any, subscription: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, subscription=subscription, **kwargs)
        field = self.fields["plan_version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = PlanVersion.objects.to_give(subscription.organisation).filter(
            currency=subscription.currency, cadence=subscription.cadence
        )


class CancelForm(ActForm):
    when = forms.ChoiceField(label="When", choices=WHEN, initial="period_end", widget=UnfoldAdminRadioSelectWidget)


class PauseForm(ActForm):
    reason = forms.CharField(label="Reason", max_length=200, widget=UnfoldAdminTextInputWidget)


class TrialForm(ActForm):
    ends_at = forms.SplitDateTimeField(label="The trial ends", widget=UnfoldAdminSplitDateTimeWidget)

    def __init__(self, *args: Any, subscription: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, subscription=subscription, **kwargs)
        self.initial = {"ends_at": subscription.trial_ends_at}


class CouponForm(ActForm):
    code = forms.CharField(label="Coupon code", max_length=40, widget=UnfoldAdminTextInputWidget)


class PrepaidForm(ActForm):
    is_prepaid = forms.BooleanField(
        label="Calls stop where credit ends", required=False, widget=UnfoldBooleanSwitchWidget
    )
    overdraft = forms.DecimalField(
        label="How far below zero they may go", min_value=0, max_digits=30, widget=UnfoldAdminDecimalFieldWidget
    )

    def __init__(self, *args: Any, subscription: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, subscription=subscription, **kwargs)
        terms = PrepaidTerms.objects.filter(organisation=subscription.organisation).first()
        self.fields["overdraft"].label = f"How far below zero they may go, in {subscription.currency}"
        self.initial = {"is_prepaid": terms is not None, "overdraft": terms.overdraft.normalize() if terms else 0}


class SubscriptionActs:
    """Mixed into the admin of subscriptions; each act is a page of its own with its form."""

    admin_site: Any
    opts: Any

    @action(description="Change the plan…", url_path="plan-change", permissions=("change",))
    def change_plan_of(self, request: HttpRequest, object_id: str) -> HttpResponse:
        now = timezone.now()

        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            at_once = values["when"] == "now"
            version = values["plan_version"]
            by = _by(request)
            subscribing.change_plan(subscription, version, now=now, at_once=at_once, **by)
            return f"{subscription.organisation}: {version} {'holds now' if at_once else 'follows'}."

        def preview(subscription: Subscription, values: dict[str, Any]) -> change_previews.ChangePreview:
            return change_previews.preview_change(subscription, values["plan_version"], now)

        return self._page(request, object_id, "Change the plan", ChangeForm, act, "Change the plan", preview)

    @action(description="Cancel…", url_path="cancellation", permissions=("change",))
    def cancel_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            by = _by(request)
            ended = subscribing.cancel(subscription, now=timezone.now(), at_once=values["when"] == "now", **by)
            return f"{subscription.organisation}: ends at {ended.ends_at:%Y-%m-%d %H:%M} UTC."

        return self._page(request, object_id, "Cancel the subscription", CancelForm, act, "Cancel the subscription")

    @action(description="Reactivate…", url_path="reactivation", permissions=("change",))
    def reactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            subscribing.resume(subscription, now=timezone.now(), actor=operator_of(request), request=request)
            return f"{subscription.organisation}: goes on."

        return self._page(request, object_id, "Take the cancellation back", ActForm, act, "Go on")

    @action(description="Pause…", url_path="pause", permissions=("change",))
    def pause_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            by = _by(request)
            resting.pause(subscription, now=timezone.now(), reason=values["reason"], **by)
            return f"{subscription.organisation}: nothing is charged from the next quarter hour on."

        return self._page(request, object_id, "Pause the subscription", PauseForm, act, "Pause")

    @action(description="End the pause…", url_path="pause-end", permissions=("change",))
    def end_pause_of(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            resting.end_pause(subscription, now=timezone.now(), actor=operator_of(request), request=request)
            return f"{subscription.organisation}: charged again."

        return self._page(request, object_id, "End the pause", ActForm, act, "Charge again")

    @action(description="Move the end of the trial…", url_path="trial", permissions=("change",))
    def move_trial(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            by = _by(request)
            moved = resting.move_trial_end(subscription, ends_at=values["ends_at"], now=timezone.now(), **by)
            return f"{subscription.organisation}: the trial ends at {moved.trial_ends_at:%Y-%m-%d %H:%M} UTC."

        return self._page(request, object_id, "Move the end of the trial", TrialForm, act, "Move it")

    @action(description="Give a coupon…", url_path="coupon", permissions=("change",))
    def give_coupon(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            by = _by(request)
            redemption = couponing.redeem(subscription, values["code"], now=timezone.now(), **by)
            return f"{subscription.organisation}: {redemption.coupon.name} comes off from this period on."

        return self._page(request, object_id, "Give a coupon", CouponForm, act, "Give it")

    @action(description="Prepaid…", url_path="prepaid", permissions=("change",))
    def make_prepaid(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(subscription: Subscription, values: dict[str, Any]) -> str:
            organisation, now = subscription.organisation, timezone.now()
            if not values["is_prepaid"]:
                prepaid.end_prepaid(organisation, now=now, **_by(request))
                return f"{organisation}: billed for what is used."
            prepaid.agree_prepaid(organisation, overdraft=values["overdraft"], now=now, **_by(request))
            worth = prepaid.effective_balance(organisation, subscription.currency, now)
            left = format_exact(worth.spendable, subscription.currency)
            return f"{organisation}: prepaid. New calls may cost {left} from now on."

        return self._page(request, object_id, "Prepaid", PrepaidForm, act, "Save")

    def _page(
        self,
        request: HttpRequest,
        object_id: str,
        title: str,
        form_class: type[ActForm],
        act: Callable[[Subscription, dict[str, Any]], str],
        label: str,
        preview: Callable[[Subscription, dict[str, Any]], Any] | None = None,
    ) -> HttpResponse:
        """The form; with `preview`, first what it would cost, then the act."""
        subscription = get_object_or_404(Subscription.objects.select_related("organisation"), pk=object_id)
        form = form_class(request.POST if request.method == "POST" else None, subscription=subscription)
        shown = None
        if request.method == "POST" and form.is_valid():
            is_asked_first = preview is not None and "preview" in request.POST
            try:
                if not is_asked_first:
                    messages.success(request, act(subscription, form.cleaned_data))
                    return redirect(reverse("admin:billing_subscription_change", args=[subscription.pk]))
                shown = preview(subscription, form.cleaned_data) if preview else None
            except DomainError as error:
                messages.error(request, error.sentence)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{title}: {subscription.organisation.name}",
            "opts": self.opts,
            "form": form,
            "label": label,
            "has_preview": preview is not None,
            "preview": shown,
            "subscription": subscription,
        }
        return TemplateResponse(request, "billing/admin/subscription_act.html", context)


def _by(request: HttpRequest) -> dict[str, Any]:
    return {"actor": operator_of(request), "request": request}
