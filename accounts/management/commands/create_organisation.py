"""manage.py create_organisation: an organisation, its owner (made if need be) and its default project."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from accounts.commands import JsonCommand
from accounts.models import Project, User
from accounts.organisations import create_organisation
from accounts.users import create_user


class Command(JsonCommand):
    help = "Create an organisation with an owner. An owner who has no account gets one, with a confirmed address."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help="What people call it.")
        parser.add_argument("--slug", help="Its part of addresses; made from the name otherwise.")
        parser.add_argument("--owner-email", required=True, help="Who owns it.")
        parser.add_argument("--owner-password", help="For a new account; without it the owner resets the password.")
        parser.add_argument("--time-zone", default="UTC", help="An IANA name such as Europe/Berlin.")

    @transaction.atomic
    def run(self, **options: Any) -> dict[str, Any]:
        email = options["owner_email"].strip().lower()
        owner = User.objects.filter(email=email).first()
        is_new = owner is None
        if owner is None:
            owner = create_user(email, password=options["owner_password"], actor=self.actor)
        organisation = create_organisation(
            options["name"], owner, slug=options["slug"], time_zone=options["time_zone"], actor=self.actor
        )
        project = Project.objects.for_organisation(organisation).get(is_default=True)
        return {
            "organisation": organisation.public_id,
            "slug": organisation.slug,
            "name": organisation.name,
            "time_zone": organisation.time_zone,
            "owner": email,
            "owner_created": is_new,
            "default_project": project.public_id,
        }
