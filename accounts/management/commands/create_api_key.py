"""manage.py create_api_key: a key that an organisation's software presents to the AI gateway."""

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Q

from accounts.api_keys import UnknownProject, create_api_key
from accounts.commands import JsonCommand, days_from_now
from accounts.models import Organisation, Project
from accounts.organisations import find_organisation


class Command(JsonCommand):
    help = "Create an API key of an organisation. Its secret is printed once and kept nowhere."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, help="Slug or public id.")
        parser.add_argument("--name", required=True, help="What will use it.")
        parser.add_argument("--project", help="Name or public id; the default project otherwise.")
        parser.add_argument("--expires-in-days", type=int, help="Without it the key does not expire.")
        parser.add_argument("--only-secret", action="store_true", help="Print nothing but the secret.")

    def run(self, **options: Any) -> dict[str, Any]:
        organisation = find_organisation(options["organisation"])
        api_key, credential = create_api_key(
            organisation,
            project=_project(organisation, options["project"]),
            name=options["name"],
            actor=self.actor,
            expires_at=days_from_now(options["expires_in_days"]),
        )
        return {
            "api_key": api_key.public_id,
            "organisation": organisation.public_id,
            "project": api_key.project.public_id,
            "name": api_key.name,
            "digest": credential.digest,
            "expires_at": api_key.expires_at,
            "secret": credential.secret,
        }


def _project(organisation: Organisation, name: str | None) -> Project:
    wanted = Q(is_default=True) if name is None else Q(public_id=name) | Q(name=name)
    project = Project.objects.for_organisation(organisation).filter(wanted).first()
    if project is None:
        raise UnknownProject(f"There is no project {name!r} in {organisation.slug}.")
    return project
