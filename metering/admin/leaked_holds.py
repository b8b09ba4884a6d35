"""Leaked holds as operators read them. Holds have a key of two columns, so this is a page and no admin of a model."""

from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin_rows import OperatorAdmin
from accounts.models import ApiKey
from metering.admin.naming import OrganisationField
from metering.leaked_holds import Report, leaked_holds, named

PER_PAGE = 50


class LeakedHoldsForm(forms.Form):
    organisation = OrganisationField(required=False)
    key = forms.CharField(label="API key (key_… id)", required=False, widget=UnfoldAdminTextInputWidget)
    report = forms.ChoiceField(
        label="Report of the call",
        required=False,
        choices=[("", "All"), (Report.NONE, "Never came"), (Report.LATE, "Came late")],
        widget=UnfoldAdminSelectWidget,
    )

    def clean_key(self) -> ApiKey | None:
        name = self.cleaned_data["key"]
        key = ApiKey.objects.filter(public_id=name).first()
        if name and key is None:
            raise forms.ValidationError("There is no such key.")
        return key

    @property
    def chosen(self) -> dict[str, Any]:
        values = self.cleaned_data
        report = Report(values["report"]) if values["report"] else None
        return {"organisation": values["organisation"], "api_key": values["key"], "report": report}


class LeakedHoldPage(OperatorAdmin):
    """For the admin of limits, whose holds these are."""

    @action(description="Leaked holds", url_path="leaked-holds", permissions=("view",))
    def leaked_holds(self, request: HttpRequest) -> HttpResponse:
        form = LeakedHoldsForm(request.GET)
        rows = leaked_holds(**form.chosen) if form.is_valid() else leaked_holds().none()
        page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
        query = request.GET.copy()
        query.pop("page", None)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Leaked holds",
            "form": form,
            "page": page,
            "rows": named(page.object_list),
            "query": query.urlencode(),
        }
        return TemplateResponse(request, "metering/admin/leaked_holds.html", context)
