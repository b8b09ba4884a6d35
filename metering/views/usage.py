"""The usage page of the portal and its CSV. Every member may see all of an organisation's usage."""

import csv
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.http import HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.first_event import curl_line
from metering.forms import GROUP_WORDS, GROUPS, UsageForm, label_title
from metering.reports import all_meters, label_names
from metering.usage_page import Figures, Question, csv_rows, figures, read_question

PAGE = "metering/usage.html"
FIGURES = "metering/usage.html#figures"
# A poll's parameter: the fingerprint of the figures that the browser shows.
SEEN = "seen"


@member_required()
@require_safe
def usage(request: MemberRequest) -> HttpResponse:
    """The page, or for htmx the part below the controls. A poll that finds nothing new is answered with 204."""
    now = timezone.now()
    asked = request.GET.copy()
    seen = asked.pop(SEEN, [""])[-1]
    form = _form(request, asked, now)
    found = figures(request.organisation, read_question(form), now)
    if request.htmx and seen == found.fingerprint:
        return HttpResponse(status=204)
    context = _context(request, form, found, asked.urlencode())
    response = render(request, FIGURES if request.htmx else PAGE, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@member_required()
@require_safe
def usage_csv(request: MemberRequest) -> StreamingHttpResponse:
    """The figures of the page as a file, line by line."""
    question = read_question(_form(request, request.GET, timezone.now()))
    response = StreamingHttpResponse(_lines(request, question), content_type="text/csv; charset=utf-8")
    name = f"usage-{request.organisation.slug}-{question.first_day}-to-{question.last_day}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _form(request: MemberRequest, values: QueryDict, now: datetime) -> UsageForm:
    return UsageForm(values, organisation=request.organisation, now=now, meters=all_meters(), labels=label_names())


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, line: str) -> str:
        return line


def _lines(request: MemberRequest, question: Question) -> Iterator[str]:
    writer = csv.writer(_Echo())
    for row in csv_rows(request.organisation, question):
        yield writer.writerow(row)


def _context(request: MemberRequest, form: UsageForm, found: Figures, query: str) -> dict[str, Any]:
    slug, group = request.organisation.slug, found.question.group
    address = reverse("metering:usage", args=[slug])
    return {
        "active_nav": "usage",
        "form": form,
        "figures": found,
        "question": found.question,
        "group_name": dict(GROUPS).get(group) or label_title(group),
        "group_word": GROUP_WORDS.get(group) or label_title(group).lower(),
        "poll_url": f"{address}?{query}{'&' if query else ''}{SEEN}={found.fingerprint}",
        "csv_url": reverse("metering:usage_csv", args=[slug]) + (f"?{query}" if query else ""),
        "send_example": curl_line(form.keys[0].public_id if form.keys else request.organisation.public_id),
    }
