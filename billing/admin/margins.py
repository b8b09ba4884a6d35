"""Margins: what usage earns and costs, by model, organisation or day, and what another price would make of it."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts.admin_rows import ReadOnlyAdmin
from accounts.enqueue import enqueue_on_commit
from billing import tasks
from billing.margins import PriceChange, margins, totals
from billing.models import MarginDay

DAYS = [("7", "Last 7 days"), ("30", "Last 30 days"), ("90", "Last 90 days")]
GROUPS = [("model", "Model"), ("organisation", "Organisation"), ("day", "Day")]


class MarginForm(forms.Form):
    """What to look at, and a change of price to try out; in the address."""

    days = forms.ChoiceField(label="Days", choices=DAYS, required=False)
    by = forms.ChoiceField(label="By", choices=GROUPS, required=False)
    percent = forms.DecimalField(
        label="What if prices were … % higher",
        required=False,
        min_value=Decimal(-100),
        max_value=Decimal(1000),
        decimal_places=2,
    )
    model = forms.ChoiceField(label="of", required=False)

    def __init__(self, values: Any) -> None:
        super().__init__({"days": "30", "by": "model"} | values.dict())
        models = MarginDay.objects.exclude(model="").values_list("model", flat=True).distinct().order_by("model")
        field = self.fields["model"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "all models"), *((model, model) for model in models[:500])]
        self.full_clean()

    def chosen(self, name: str, default: str) -> str:
        return self.cleaned_data.get(name) or default

    @property
    def change(self) -> PriceChange | None:
        percent = self.cleaned_data.get("percent")
        return PriceChange(percent, self.chosen("model", "")) if percent else None


@admin.register(MarginDay)
class MarginAdmin(ReadOnlyAdmin):
    def get_urls(self) -> list[Any]:
        anew = self.admin_site.admin_view(require_POST(self.compute_anew))
        return [path("anew/", anew, name="billing_marginday_anew"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        form = MarginForm(request.GET)
        today = timezone.now().date()
        first = today - timedelta(days=int(form.chosen("days", "30")) - 1)
        by: Any = form.chosen("by", "model")
        rows = margins(first, today, by=by)
        then = margins(first, today, by=by, change=form.change) if form.change else []
        after = {(row.currency, row.id, row.name): row for row in [*then, *totals(then)]}
        context = {
            **self.admin_site.each_context(request),
            "title": "Margins",
            "opts": self.opts,
            "form": form,
            "by": dict(GROUPS)[by],
            "is_tried": bool(then),
            "rows": [(row, after.get((row.currency, row.id, row.name))) for row in rows],
            "totals": [(row, after.get((row.currency, row.id, row.name))) for row in totals(rows)],
            "computed_at": MarginDay.objects.aggregate(at=Max("computed_at"))["at"],
        }
        return TemplateResponse(request, "billing/admin/margins.html", context)

    def compute_anew(self, request: HttpRequest) -> HttpResponse:
        enqueue_on_commit(tasks.compute_margins)
        messages.success(request, "Margins are being worked out anew. Look again in a minute.")
        return redirect(reverse("admin:billing_marginday_changelist"))
