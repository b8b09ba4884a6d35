"""Whether counters of limits are right, night by night, and making them right where they are not."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display

from accounts.admin_rows import ReadOnlyAdmin, operator_of
from accounts.enqueue import enqueue_on_commit
from accounts.errors import DomainError
from accounts.models import Organisation
from metering.models import CountersCheck
from metering.recounting import compare_counters, recompute_counters
from metering.tasks import compare_counters as compare_all

MOST_SHOWN = 200


@admin.register(CountersCheck)
class CountersCheckAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "finished_at", "differences", "result")
    actions_list = ("recompute",)

    @display(description="Result", label={"right": "success", "wrong": "danger"})
    def result(self, check: CountersCheck) -> str:
        return "wrong" if check.differences else "right"

    @action(description="Recompute what is wrong…", url_path="recompute", permissions=("act",))
    def recompute(self, request: HttpRequest) -> HttpResponse:
        """Shows what is different now where the last comparison found something, and mends it once confirmed."""
        organisations = self._found_wrong()
        if request.method == "POST":
            self._mend(request, organisations)
            return redirect(reverse("admin:metering_counterscheck_changelist"))
        now = timezone.now()
        wrong = [one for organisation in organisations for one in compare_counters(organisation, now=now)]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Recompute counters of limits",
            "count": len(wrong),
            "wrong": wrong[:MOST_SHOWN],
            "check": CountersCheck.objects.first(),
        }
        return TemplateResponse(request, "metering/admin/recomputing.html", context)

    def _found_wrong(self) -> list[Organisation]:
        """Those that the last comparison named; it writes down the first hundred differences."""
        last = CountersCheck.objects.first()
        slugs = {one["organisation"] for one in last.detail} if last else set()
        return list(Organisation.objects.filter(slug__in=slugs).order_by("slug"))

    def _mend(self, request: HttpRequest, organisations: list[Organisation]) -> None:
        mended = 0
        for organisation in organisations:
            try:
                found = recompute_counters(
                    organisation, now=timezone.now(), actor=operator_of(request), request=request
                )
            except DomainError as error:
                messages.error(request, f"{organisation.name}: {error.sentence}")
            else:
                mended += len(found)
        if mended:
            messages.success(request, f"{mended} counters were made right. They are compared again in the background.")
        enqueue_on_commit(compare_all)
