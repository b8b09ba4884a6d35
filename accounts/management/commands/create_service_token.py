"""manage.py create_service_token: a token with which the operator's own software calls the REST API."""

from typing import Any

from django.core.management.base import CommandParser

from accounts.commands import JsonCommand, days_from_now
from accounts.models.tokens import SERVICE_SCOPES
from accounts.tokens import create_service_token


class Command(JsonCommand):
    help = "Create a service token. Its secret is printed once and kept nowhere."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help="What will use it.")
        parser.add_argument(
            "--scope",
            action="append",
            choices=[str(scope) for scope in SERVICE_SCOPES],
            help="Repeat it; default: all.",
        )
        parser.add_argument("--expires-in-days", type=int, help="Without it the token does not expire.")
        parser.add_argument("--only-secret", action="store_true", help="Print nothing but the secret.")

    def run(self, **options: Any) -> dict[str, Any]:
        token, credential = create_service_token(
            options["name"],
            options["scope"] or SERVICE_SCOPES,
            actor=self.actor,
            expires_at=days_from_now(options["expires_in_days"]),
        )
        return {
            "token": token.public_id,
            "name": token.name,
            "scopes": [str(scope) for scope in token.scopes],
            "expires_at": token.expires_at,
            "secret": credential.secret,
        }
