"""The pages anybody may read: the front page and the prices."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import public
from accounts.first_event import curl_line
from accounts.pages import render_page
from billing import plan_words
from billing.forms import CalculatorForm
from billing.price_calculator import Calls, estimates
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


@require_safe
@public
def calculator(request: HttpRequest) -> HttpResponse:
    """What a month of calls would cost; the question stands in the address, so that it can be passed on."""
    now = timezone.now()
    form = CalculatorForm(request.GET, now=now)
    context = {
        "active_nav": "pricing",
        "form": form,
        "estimates": [],
        "calls": None,
        "meter_names": plan_words.meter_names(),
    }
    if form.is_valid():
        values = form.cleaned_data
        calls = Calls(values["model"], values["calls"], values["prompt"], values["cached"], values["answer"])
        context |= {"calls": calls, "estimates": estimates(calls, now)}
    return render_page(request, "public/calculator.html", context, part="figures")
