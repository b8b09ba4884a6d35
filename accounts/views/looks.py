"""Ending an operator's look into a portal. It begins in the admin."""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts.access import UserRequest, signed_in
from accounts.looking_in import end_look


@signed_in
@require_POST
def look_end(request: UserRequest) -> HttpResponse:
    """Back to the organisation in the admin; without a look, to wherever the user belongs."""
    organisation = end_look(request, request.user)
    if organisation is None:
        return redirect("accounts:home")
    return redirect("admin:accounts_organisation_change", organisation.pk)
