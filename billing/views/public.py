"""The pages anybody may read: the front page and the prices."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import public
from accounts.first_event import curl_line
from billing import plan_words
from billing.price_list import price_lists


@require_safe
@public
def front(request: HttpRequest) -> HttpResponse:
    context = {"active_nav": "front", "curl_line": curl_line("key_…", "call-1")}
    return render(request, "public/front.html", context)


@require_safe
@public
def pricing(request: HttpRequest) -> HttpResponse:
    context = {
        "active_nav": "pricing",
        "offers": plan_words.offers(),
        "price_lists": price_lists(timezone.now()),
    }
    return render(request, "public/pricing.html", context)
