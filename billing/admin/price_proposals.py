"""Proposals for the price book: made from published prices or a file, looked at row by row, accepted or discarded."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.errors import DomainError
from billing.models import PriceKind, PriceProposal, ProposedPrice
from billing.models.price_proposals import ProposalState
from billing.price_files import PriceFileInvalid, read_prices_file
from billing.price_proposals import accept_proposal, discard_proposal, propose_published, propose_rows
from billing.published_prices import provider_ids
from billing.usage_labels import never_met

LARGEST_FILE = 5_000_000
# A form may have 1,000 fields: longer proposals are accepted as they are, or made anew for fewer models.
MOST_CHOICES = 900


class PublishedForm(forms.Form):
    provider = forms.ChoiceField(label="Provider", required=False, widget=UnfoldAdminSelectWidget)
    kind = forms.ChoiceField(
        label="As", choices=PriceKind, initial=PriceKind.COST.value, widget=UnfoldAdminSelectWidget
    )
    models = forms.CharField(
        label="Only models like",
        required=False,
        help_text="Names or patterns with spaces between them: gpt-4* claude-*. Empty: all.",
        widget=UnfoldAdminTextInputWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["provider"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "The models in use, whoever makes them"), *((name, name) for name in provider_ids())]


class FileForm(forms.Form):
    file = forms.FileField(
        label="CSV file",
        help_text="Columns as in the download: meter, currency, amount and valid_from at least.",
        widget=UnfoldAdminFileFieldWidget,
    )


@admin.register(PriceProposal)
class PriceProposalAdmin(ReadOnlyAdmin):
    list_display = ("source", "made_at", "made_by", "row_count", "shown_state")
    list_filter = ("state",)
    actions_list = ("published", "upload")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(count=Count("rows"))

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """The rows beside what is in force; accepting or discarding them."""
        proposal = get_object_or_404(PriceProposal, pk=object_id)
        if request.method == "POST" and self.has_act_permission(request):
            _decide(request, proposal)
            return redirect(reverse("admin:billing_priceproposal_change", args=[proposal.pk]))
        rows = list(proposal.rows.select_related("meter", "instead_of").prefetch_related("meter__revisions"))
        context = {
            **self.admin_site.each_context(request),
            "title": str(proposal),
            "opts": self.opts,
            "proposal": proposal,
            "is_open": proposal.state == ProposalState.OPEN,
            "is_choosable": len(rows) <= MOST_CHOICES,
            "rows": rows,
            "warnings": _warnings(rows),
        }
        return TemplateResponse(request, "billing/admin/price_proposal.html", context)

    @action(description="Compare with published prices…", url_path="published", permissions=("act",))
    def published(self, request: HttpRequest) -> HttpResponse:
        form = PublishedForm(request.POST or None)
        if form.is_valid():
            values = {**form.cleaned_data, "models": form.cleaned_data["models"].split()}
            now, actor = timezone.now(), operator_of(request)
            answer = _propose(request, lambda: propose_published(**values, now=now, actor=actor))
            if answer is not None:
                return answer
        return self._form(request, form, "Compare with published prices", "Compare")

    @action(description="Read a CSV file…", url_path="upload", permissions=("act",))
    def upload(self, request: HttpRequest) -> HttpResponse:
        form = FileForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            file = form.cleaned_data["file"]
            answer = _propose(request, lambda: _propose_file(file, operator_of(request)))
            if answer is not None:
                return answer
        return self._form(request, form, "Read prices from a CSV file", "Read it")

    def _form(self, request: HttpRequest, form: forms.Form, title: str, label: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "label": label,
            "note": "This makes a proposal. Nothing changes in the price book until it is accepted.",
        }
        return TemplateResponse(request, "billing/admin/price_form.html", context)

    @display(description="Rows", ordering="count")
    def row_count(self, proposal: Any) -> int:
        return int(proposal.count)

    @display(description="State", label={"To decide": "warning", "Accepted": "success", "Discarded": "info"})
    def shown_state(self, proposal: PriceProposal) -> str:
        return proposal.get_state_display()


def _warnings(rows: list[ProposedPrice]) -> list[str]:
    """Why some of the rows would never be applied, each said once."""
    asked = {(row.meter, row.conditions) for row in rows}
    return sorted({warning for meter, conditions in asked for warning in never_met(meter, conditions)})


def _propose(request: HttpRequest, make: Any) -> HttpResponse | None:
    """Where to go then; None where it was refused."""
    try:
        proposal = make()
    except DomainError as error:
        messages.error(request, error.sentence)
        return None
    return redirect(reverse("admin:billing_priceproposal_change", args=[proposal.pk]))


def _propose_file(file: Any, actor: Any) -> PriceProposal:
    if file.size > LARGEST_FILE:
        raise PriceFileInvalid("The file is larger than 5 MB. Split it, or use the command import_prices.")
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PriceFileInvalid("The file is not text in UTF-8.") from error
    return propose_rows(read_prices_file(text.splitlines()), source=file.name, now=timezone.now(), actor=actor)


def _decide(request: HttpRequest, proposal: PriceProposal) -> None:
    now, actor = timezone.now(), operator_of(request)
    try:
        if "discard" in request.POST:
            discard_proposal(proposal, now=now, actor=actor, request=request)
            messages.success(request, "The proposal is discarded.")
            return
        is_chosen = "choice" in request.POST
        selected = [int(pk) for pk in request.POST.getlist("rows") if pk.isdigit()] if is_chosen else None
        prices = accept_proposal(proposal, now=now, selected=selected, actor=actor, request=request)
        messages.success(request, f"{len(prices)} price{'' if len(prices) == 1 else 's'} added to the book.")
    except DomainError as error:
        messages.error(request, error.sentence)
