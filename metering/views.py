"""The usage page of the portal and its CSV. Every member may see all of an organisation's usage."""

import csv
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from accounts.access import MemberRequest, member_required
from metering.forms import Question, UsageForm
from metering.usage_page import Figures, csv_rows, figures

PAGE = "metering/usage.html"
FIGURES = "metering/usage.html#figures"


@member_required()
def usage(request: MemberRequest) -> HttpResponse:
    """The page, or for htmx the part below the controls. A poll that finds nothing new is answered with 204."""
    now = timezone.now()
    form = UsageForm(request.GET, organisation=request.organisation, now=now)
    found = figures(request.organisation, form.question(), now)
    response = render(request, FIGURES if request.htmx else PAGE, _context(request, form, found))
    patch_vary_headers(response, ["HX-Request"])
    return response


@member_required()
def usage_csv(request: MemberRequest) -> StreamingHttpResponse:
    """The figures of the page as a file, line by line."""
    form = UsageForm(request.GET, organisation=request.organisation, now=timezone.now())
    question = form.question()
    response = StreamingHttpResponse(_lines(request, question), content_type="text/csv; charset=utf-8")
    name = f"usage-{request.organisation.slug}-{question.start:%Y-%m-%d}-to-{question.last_day:%Y-%m-%d}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, line: str) -> str:
        return line


def _lines(request: MemberRequest, question: Question) -> Iterator[str]:
    writer = csv.writer(_Echo())
    for row in csv_rows(request.organisation, question):
        yield writer.writerow(row)


def _context(request: MemberRequest, form: UsageForm, found: Figures) -> dict[str, Any]:
    question = form.question()
    slug, query = request.organisation.slug, request.GET.urlencode()
    return {
        "active_nav": "usage",
        "form": form,
        "figures": found,
        "question": question,
        "group_name": dict(form.fields["group"].choices)[question.group],
        "poll_url": request.get_full_path(),
        "csv_url": reverse("metering:usage_csv", args=[slug]) + (f"?{query}" if query else ""),
        "keys_url": reverse("accounts:key_create", args=[slug]),
        "send_example": _send_example(request, form),
    }


def _send_example(request: HttpRequest, form: UsageForm) -> str:
    """A call that makes the first figure appear, with a key of the organisation where there is one."""
    subject = form.keys[0].public_id if form.keys else form.organisation.public_id
    return SEND_EXAMPLE.format(url=request.build_absolute_uri("/v1/events"), subject=subject)


SEND_EXAMPLE = """\
curl {url} \\
  -H "Authorization: Bearer $SERVICE_TOKEN" \\
  -H "Content-Type: application/cloudevents+json" \\
  -d '{{"specversion": "1.0", "id": "call-1", "source": "my-gateway", "type": "ai.usage",
       "subject": "{subject}",
       "data": {{"model": "gpt-oss-120b", "input_tokens": 1200, "output_tokens": 350}}}}'"""
