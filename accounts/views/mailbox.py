"""The pages of the development mailbox. With a real mail server they do not exist."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.csp import CSP
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_safe

from accounts.access import public
from accounts.mailbox import Message, stored_message, stored_messages

PAGE_POLICY: dict[str, Any] = {**settings.SECURE_CSP, "frame-src": [CSP.SELF]}
# The message's HTML is shown in a frame that may do nothing but look like itself and open its links outside.
HTML_POLICY: dict[str, Any] = {
    "default-src": [CSP.NONE],
    "style-src": [CSP.UNSAFE_INLINE],
    "img-src": [CSP.SELF, "data:"],
    "frame-ancestors": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.NONE],
    "sandbox": ["allow-popups", "allow-popups-to-escape-sandbox", "allow-top-navigation-by-user-activation"],
}


@public
@never_cache
@require_safe
def mailbox(request: HttpRequest) -> HttpResponse:
    _refuse_with_mail_server()
    return render(request, "accounts/mailbox.html", {"mails": stored_messages()})


@public
@never_cache
@require_safe
@csp_override(PAGE_POLICY)
def mailbox_message(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "accounts/mailbox_message.html", {"mail": _message(name)})


@public
@never_cache
@require_safe
@xframe_options_sameorigin
@csp_override(HTML_POLICY)
def mailbox_html(request: HttpRequest, name: str) -> HttpResponse:
    html = _message(name).html
    if not html:
        raise Http404("That message has no HTML part.")
    return HttpResponse(html)


def _message(name: str) -> Message:
    _refuse_with_mail_server()
    message = stored_message(name)
    if message is None:
        raise Http404("There is no such message.")
    return message


def _refuse_with_mail_server() -> None:
    if settings.DEVELOPMENT_MAILBOX is None:
        raise Http404("There is no mailbox here.")
