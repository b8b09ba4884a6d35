"""Usage files: uploaded, looked at, confirmed, imported by a worker; with what was refused to download."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.enqueue import enqueue_on_commit
from accounts.errors import DomainError
from metering import usage_imports
from metering.admin.naming import OrganisationField
from metering.formats.usage_files import RESERVED_FIELDS
from metering.models import UsageImport
from metering.tasks import carry_on_usage_imports
from metering.usage_imports import PreviewRow, Terms

COLUMN = "column_"
# Names offered where a column's meaning is asked for; any other is a member of the event's data.
KNOWN_FIELDS = (
    *RESERVED_FIELDS,
    "model",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
REFRESH_SECONDS = 3


class UploadForm(forms.Form):
    organisation = OrganisationField()
    file = forms.FileField(
        label="File: CSV with a header, NDJSON or Parquet",
        widget=UnfoldAdminFileFieldWidget({"accept": ".csv,.ndjson,.jsonl,.parquet,.pq"}),
    )


class TermsForm(forms.Form):
    """What the columns hold, one field for each, and what holds for all rows."""

    event_type = forms.CharField(label="Type of the events", max_length=255, widget=UnfoldAdminTextInputWidget)
    model = forms.CharField(
        label="Model, where no column holds it", max_length=255, required=False, widget=UnfoldAdminTextInputWidget
    )
    source = forms.CharField(
        label="Source, in the place of the file's digest; needed where a column holds ids",
        max_length=255,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    api_key = forms.CharField(
        label="API key (key_…) that the usage is put down to; else the organisation",
        max_length=32,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    backfill = forms.BooleanField(
        label="Take rows older than the late window; no invoice will take them up by itself",
        required=False,
        widget=UnfoldBooleanWidget,
    )

    def __init__(self, row: UsageImport, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        fields = {column: field for field, column in row.columns.items()}
        for place, column in enumerate(row.present):
            widget = UnfoldAdminTextInputWidget({"list": "known-fields", "autocomplete": "off"})
            self.fields[f"{COLUMN}{place}"] = forms.CharField(
                label=column, max_length=255, required=False, initial=fields.get(column, ""), widget=widget
            )
        self.present = row.present

    @property
    def column_fields(self) -> Iterator[forms.BoundField]:
        return (self[f"{COLUMN}{place}"] for place in range(len(self.present)))

    @property
    def other_fields(self) -> Iterator[forms.BoundField]:
        return (field for field in self if not field.name.startswith(COLUMN))

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        columns: dict[str, str] = {}
        for place, column in enumerate(self.present):
            field = values.get(f"{COLUMN}{place}", "").strip()
            if field in columns:
                self.add_error(f"{COLUMN}{place}", f"{columns[field]} holds that already.")
            elif field:
                columns[field] = column
        return {**values, "columns": columns}

    def terms(self) -> Terms:
        names = ("columns", "event_type", "model", "source", "api_key", "backfill")
        return Terms(**{name: self.cleaned_data[name] for name in names})


@admin.register(UsageImport)
class UsageImportAdmin(ReadOnlyAdmin):
    list_display = ("file_name", "organisation", "shown_state", "progress", "accepted", "refused", "created_at")
    list_select_related = ("organisation",)
    list_filter = ("state",)
    search_fields = ("file_name", "digest", "public_id", "organisation__name", "organisation__slug")
    show_full_result_count = False
    fields = (
        "public_id",
        "organisation",
        "file_name",
        "shown_state",
        "progress",
        "accepted",
        "duplicates",
        "conflicts",
        "rejected",
        "error",
        "event_type",
        "source",
        "model",
        "api_key",
        "backfill",
        "mapping",
        "byte_count",
        "digest",
        "created_at",
        "confirmed_at",
        "finished_at",
    )
    actions_list = ("upload",)
    actions_detail = ("look", "refused_lines", "cancel_this")

    @display(
        description="State",
        label={
            "Imported": "success",
            "Being imported": "info",
            "Waits for a worker": "info",
            "Waits for a look at its columns": "warning",
            "Could not be read to its end": "danger",
        },
    )
    def shown_state(self, row: UsageImport) -> str:
        return row.get_state_display()

    @display(description="Progress")
    def progress(self, row: UsageImport) -> str:
        return f"{row.percent} %: line {row.lines_done:,} of {row.lines:,}"

    @display(description="Refused")
    def refused(self, row: UsageImport) -> int:
        return row.rejected + row.conflicts

    @display(description="Columns")
    def mapping(self, row: UsageImport) -> str:
        return ", ".join(f"{column} → {field}" for field, column in row.columns.items())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        row = self.get_object(request, object_id)
        if row is not None and row.is_at_work:
            response["Refresh"] = str(REFRESH_SECONDS)
        return response

    @action(description="Upload a file…", url_path="upload", permissions=("act",))
    def upload(self, request: HttpRequest) -> HttpResponse:
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            file = form.cleaned_data["file"]
            try:
                row = usage_imports.keep_upload(
                    form.cleaned_data["organisation"],
                    file.chunks(),
                    file_name=file.name,
                    now=timezone.now(),
                    actor=operator_of(request),
                    request=request,
                )
                return redirect(reverse("admin:metering_usageimport_look", args=[row.pk]))
            except DomainError as error:
                form.add_error("file", error.sentence)
        context = {"title": "Upload a usage file", "form": form}
        return TemplateResponse(request, "metering/admin/upload.html", self._context(request, context))

    @action(description="Look and import…", url_path="look", permissions=("act",))
    def look(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The first rows as they would be read; imports once the operator says so."""
        row = self._row(request, object_id)
        if row.state != UsageImport.State.UPLOADED:
            messages.warning(request, "It was confirmed or has ended already.")
            return self._back_to(row)
        form = TermsForm(row, request.POST or None, initial={"event_type": row.event_type})
        rows: list[PreviewRow] = []
        try:
            if request.method == "POST" and form.is_valid() and "import" in request.POST:
                return self._confirm(request, row, form.terms())
            usual = Terms(row.columns, row.event_type)
            rows = usage_imports.preview(row, form.terms() if form.is_bound and form.is_valid() else usual)
        except DomainError as error:
            messages.error(request, error.sentence)
        context = {"title": f"{row.file_name} of {row.organisation}", "form": form, "row": row, "rows": rows}
        return TemplateResponse(
            request, "metering/admin/usage_import.html", self._context(request, {**context, "known": KNOWN_FIELDS})
        )

    @action(description="Download refused lines", url_path="refused-lines", permissions=("view",))
    def refused_lines(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        row = self._row(request, object_id)
        response = StreamingHttpResponse(usage_imports.refused_lines_csv(row), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="refused-{row.public_id}.csv"'
        return response

    @action(description="Cancel…", url_path="cancellation", permissions=("act",))
    def cancel_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._row(request, object_id)
        if request.method == "POST":
            done = usage_imports.cancel(row, now=timezone.now(), actor=operator_of(request), request=request)
            if done:
                messages.success(request, "Cancelled. What was imported stays.")
            else:
                messages.warning(request, "It has ended already.")
            return self._back_to(row)
        context = {
            "title": "Cancel this import?",
            "consequence": "Rows that were imported stay; the rest is not read, and the file is deleted here.",
            "label": "Cancel the import",
            "rows": [row],
        }
        return TemplateResponse(request, "accounts/admin_confirm.html", self._context(request, context))

    def _confirm(self, request: HttpRequest, row: UsageImport, terms: Terms) -> HttpResponse:
        usage_imports.confirm(row, terms, now=timezone.now(), actor=operator_of(request), request=request)
        enqueue_on_commit(carry_on_usage_imports)
        messages.success(request, "It is being imported. This page shows how far it is.")
        return self._back_to(row)

    def _row(self, request: HttpRequest, object_id: str) -> UsageImport:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        assert isinstance(row, UsageImport)
        return row

    def _back_to(self, row: UsageImport) -> HttpResponse:
        return redirect(reverse("admin:metering_usageimport_change", args=[row.pk]))

    def _context(self, request: HttpRequest, shown: dict[str, Any]) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, **shown}
