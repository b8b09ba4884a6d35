"""Where a signed-in person arrives, and what belongs to the person or to the organisation as such."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from accounts import organisations
from accounts.access import LAST_ORGANISATION, MemberRequest, UserRequest, member_required, public, signed_in
from accounts.errors import DomainError
from accounts.forms import OrganisationForm, ProfileForm
from accounts.models import Capability, Organisation


@public
@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers ask for it here wherever a page names no icon of its own."""
    return redirect(static("img/favicon.svg"))


@signed_in
@require_safe
def home(request: UserRequest) -> HttpResponse:
    """To the organisation that was last looked at, or else the first; without any, to making one."""
    slugs = list(Organisation.objects.of_member(request.user).values_list("slug", flat=True))
    if not slugs:
        return redirect("accounts:organisation_create")
    last = request.session.get(LAST_ORGANISATION)
    return redirect("billing:overview", slug=last if last in slugs else slugs[0])


@signed_in
def organisation_create(request: UserRequest) -> HttpResponse:
    form = OrganisationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = organisations.create_organisation(
                form.cleaned_data["name"], request.user, time_zone=form.cleaned_data["time_zone"], request=request
            )
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            messages.success(request, f"{made.name} is ready. Make an API key to begin.")
            return redirect("billing:overview", slug=made.slug)
    is_first = not Organisation.objects.of_member(request.user).exists()
    return render(request, "accounts/organisation_create.html", {"form": form, "is_first": is_first})


@signed_in
def profile(request: UserRequest) -> HttpResponse:
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Your name was saved.")
        return redirect("accounts:profile")
    return render(request, "accounts/profile.html", {"form": form})


@member_required()
@require_safe
def settings(request: MemberRequest) -> HttpResponse:
    return _settings_page(request, _settings_form(request))


@member_required(Capability.MANAGE_ORGANISATION)
def settings_change(request: MemberRequest) -> HttpResponse:
    """Saves the settings; opened by address it is the settings page."""
    if request.method != "POST":
        return redirect("accounts:settings", slug=request.organisation.slug)
    form = _settings_form(request)
    if form.is_valid():
        try:
            organisations.update_organisation(
                request.organisation, **form.cleaned_data, actor=request.user, request=request
            )
        except DomainError as error:
            form.add_error(None, error.sentence)
        else:
            messages.success(request, "The settings were saved.")
            return redirect("accounts:settings", slug=request.organisation.slug)
    return _settings_page(request, form)


def _settings_form(request: MemberRequest) -> OrganisationForm:
    organisation = request.organisation
    initial = {"name": organisation.name, "time_zone": organisation.time_zone}
    return OrganisationForm(request.POST or None, initial=initial)


def _settings_page(request: HttpRequest, form: OrganisationForm) -> HttpResponse:
    return render(request, "accounts/settings.html", {"form": form, "active_nav": "settings"})
