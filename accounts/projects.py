"""Projects: making, renaming, archiving. The default project cannot be archived, nor one with live keys."""

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit
from accounts.audit import Actor
from accounts.errors import DomainError
from accounts.models import ApiKey, Organisation, Project


class InvalidProjectName(DomainError):
    code = "invalid_name"
    status = 422
    sentence = "Enter a name of at most 120 characters."


class ProjectNameTaken(DomainError):
    code = "name_taken"
    sentence = "Another project already has that name."


class DefaultProject(DomainError):
    code = "default_project"
    sentence = "The default project stays: usage that names no key is put down to it."


class ProjectHasLiveKeys(DomainError):
    code = "project_has_live_keys"
    sentence = "Revoke the project's keys first."


@transaction.atomic
def create_project(
    organisation: Organisation, name: str, *, actor: Actor, request: HttpRequest | None = None
) -> Project:
    """Make a project; its name is unique within the organisation."""
    project = Project(organisation=organisation, name=_valid_name(name))
    Project.objects.bulk_create([project], ignore_conflicts=True)
    made = Project.objects.filter(public_id=project.public_id).first()
    if made is None:
        raise ProjectNameTaken
    _record(made, "project.created", actor, request)
    return made


@transaction.atomic
def rename_project(project: Project, name: str, *, actor: Actor, request: HttpRequest | None = None) -> Project:
    """Give a project another name; the same name does nothing."""
    # The organisation's projects are locked in one order, so that two renames cannot take one name.
    rows = Project.objects.for_organisation(project.organisation).order_by("pk").select_for_update()
    names = {row.pk: row.name for row in rows}
    name, before = _valid_name(name), names[project.pk]
    if name == before:
        return project
    if name in names.values():
        raise ProjectNameTaken
    project.name = name
    project.save(update_fields=["name"])
    _record(project, "project.renamed", actor, request, {"name": [before, name]})
    return project


@transaction.atomic
def archive_project(project: Project, *, actor: Actor, request: HttpRequest | None = None) -> bool:
    """Put a project away; its history stays. Returns whether anything changed."""
    now = timezone.now()
    locked = Project.objects.select_for_update().get(pk=project.pk)
    if locked.archived_at is not None:
        return False
    if locked.is_default:
        raise DefaultProject
    if ApiKey.objects.filter(project=locked).live(now).exists():
        raise ProjectHasLiveKeys
    locked.archived_at = project.archived_at = now
    locked.save(update_fields=["archived_at"])
    _record(locked, "project.archived", actor, request)
    return True


def _valid_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise InvalidProjectName
    return name


def _record(
    project: Project,
    action: str,
    actor: Actor,
    request: HttpRequest | None,
    details: dict[str, object] | None = None,
) -> None:
    audit.record(
        action,
        organisation=project.organisation,
        actor=actor,
        subject_id=project.public_id,
        subject_label=project.name,
        details=details,
        request=request,
    )
