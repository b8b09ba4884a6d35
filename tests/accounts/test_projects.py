"""Projects: making, renaming, archiving."""

import pytest

from accounts.api_keys import revoke_api_key
from accounts.models import AuditEntry, Project
from accounts.projects import (
    DefaultProject,
    InvalidProjectName,
    ProjectHasLiveKeys,
    ProjectNameTaken,
    archive_project,
    create_project,
    rename_project,
)
from tests import factories
from tests.accounts.threads import at_once


def test_names_are_unique_within_an_organisation_only(acme, globex, olivia, gus):
    create_project(acme, "Chat", actor=olivia)
    create_project(globex, "Chat", actor=gus)
    with pytest.raises(ProjectNameTaken):
        create_project(acme, " Chat ", actor=olivia)
    with pytest.raises(InvalidProjectName):
        create_project(acme, "", actor=olivia)


def test_rename_keeps_names_unique(acme, olivia):
    chat = factories.project(acme, "Chat")
    with pytest.raises(ProjectNameTaken):
        rename_project(chat, "Default", actor=olivia)
    assert rename_project(chat, "Search", actor=olivia).name == "Search"
    assert AuditEntry.objects.get(action="project.renamed").details == {"name": ["Chat", "Search"]}


@pytest.mark.django_db(transaction=True)
def test_two_projects_renamed_to_one_name_at_once(acme, olivia):
    one, other = factories.project(acme, "One"), factories.project(acme, "Other")
    done = at_once(
        lambda: rename_project(one, "Same", actor=olivia), lambda: rename_project(other, "Same", actor=olivia)
    )
    assert sorted(type(result).__name__ for result in done) == ["Project", "ProjectNameTaken"]


def test_default_project_and_projects_with_live_keys_stay(acme, olivia):
    with pytest.raises(DefaultProject):
        archive_project(factories.default_project(acme), actor=olivia)
    chat = factories.project(acme, "Chat")
    key = factories.api_key(acme, project=chat)
    with pytest.raises(ProjectHasLiveKeys):
        archive_project(chat, actor=olivia)
    revoke_api_key(key.api_key, actor=olivia)
    assert [archive_project(chat, actor=olivia) for _ in range(2)] == [True, False]
    assert not Project.objects.active().filter(pk=chat.pk).exists()
