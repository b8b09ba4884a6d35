"""The page on which anybody reports a leaked key. It says which lines were ours and repeats no secret."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import rate_limits
from accounts.access import public
from accounts.forms import LeakedKeyForm
from accounts.leaked_keys import LeakedSecret, report_leaked
from accounts.views.errors import too_many_requests


@public
@never_cache
@sensitive_post_parameters()
def leaked_key(request: HttpRequest) -> HttpResponse:
    form = LeakedKeyForm(request.POST or None)
    answers: list[bool] = []
    if request.method == "POST":
        now = timezone.now()
        if not rate_limits.is_within(rate_limits.LEAKED_KEYS, request, now):
            return too_many_requests(request, rate_limits.LEAKED_KEYS, now)
        if form.is_valid():
            found = [LeakedSecret(secret, form.cleaned_data["url"]) for secret in form.cleaned_data["secrets"]]
            answers = report_leaked(found, now=now, request=request)
            form = LeakedKeyForm()
    context = {"form": form, "answers": answers, "ours": sum(answers)}
    return render(request, "accounts/leaked_key.html", context)
