"""Projects: the list, one project, making, renaming, archiving."""

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import projects as verbs
from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.forms import ProjectForm
from accounts.models import ApiKey, Capability, Project


@member_required()
@require_safe
def projects(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    live = Q(api_keys__revoked_at=None) & (Q(api_keys__expires_at=None) | Q(api_keys__expires_at__gt=now))
    rows = Project.objects.for_organisation(request.organisation).annotate(live_keys=Count("api_keys", filter=live))
    context = {
        "projects": rows.filter(archived_at=None),
        "archived": rows.exclude(archived_at=None),
        "active_nav": "projects",
    }
    return render(request, "accounts/projects.html", context)


@member_required(Capability.MANAGE_KEYS)
def project_create(request: MemberRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = verbs.create_project(
                request.organisation, form.cleaned_data["name"], actor=request.user, request=request
            )
        except DomainError as error:
            form.add_error("name", error.sentence)
        else:
            messages.success(request, f"The project “{made.name}” was created.")
            return redirect("accounts:projects", slug=request.organisation.slug)
    return render(request, "accounts/project_create.html", {"form": form, "active_nav": "projects"})


@member_required()
@require_safe
def project(request: MemberRequest, public_id: str) -> HttpResponse:
    found = _project(request, public_id)
    return _project_page(request, found, ProjectForm(initial={"name": found.name}))


@member_required(Capability.MANAGE_KEYS)
def project_name(request: MemberRequest, public_id: str) -> HttpResponse:
    """Renames; opened by address it is the project's page."""
    found = _project(request, public_id)
    form = ProjectForm(request.POST)
    if request.method == "POST" and form.is_valid():
        try:
            verbs.rename_project(found, form.cleaned_data["name"], actor=request.user, request=request)
        except DomainError as error:
            form.add_error("name", error.sentence)
        else:
            messages.success(request, "The name was saved.")
    if request.method == "POST" and form.errors:
        return _project_page(request, found, form)
    return redirect("accounts:project", slug=request.organisation.slug, public_id=public_id)


@member_required(Capability.MANAGE_KEYS)
def project_archival(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks on GET, archives on POST."""
    found = _project(request, public_id)
    here = reverse("accounts:project", args=[request.organisation.slug, public_id])
    if request.method == "POST":
        try:
            verbs.archive_project(found, actor=request.user, request=request)
        except DomainError as error:
            messages.error(request, error.sentence)
            return redirect(here)
        messages.success(request, f"The project “{found.name}” was archived.")
        return redirect("accounts:projects", slug=request.organisation.slug)
    context = {"project": found, "cancel_url": here, "active_nav": "projects"}
    return render(request, "accounts/project_archival.html", context)


def _project(request: MemberRequest, public_id: str) -> Project:
    rows = Project.objects.for_organisation(request.organisation).select_related("organisation")
    found = rows.filter(public_id=public_id).first()
    if found is None:
        raise Http404("There is no such project.")
    return found


def _project_page(request: MemberRequest, found: Project, form: ProjectForm) -> HttpResponse:
    now = timezone.now()
    rows = ApiKey.objects.for_organisation(request.organisation).filter(project=found).live(now)
    context = {
        "project": found,
        "keys": rows.prefetch_related("secrets")[:20],
        "live_keys": rows.count(),
        "form": form,
        "active_nav": "projects",
    }
    return render(request, "accounts/project.html", context)
