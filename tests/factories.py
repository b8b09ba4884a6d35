"""Makes things for tests through the real verbs, so that nothing exists in a test that could not exist in life."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.test import Client

from accounts.api_keys import create_api_key
from accounts.memberships import accept_invitation, invite
from accounts.models import AccessToken, ApiKey, Membership, Organisation, Project, Role, ServiceToken, User
from accounts.models.tokens import ACCESS_SCOPES, SERVICE_SCOPES
from accounts.organisations import create_organisation
from accounts.projects import create_project
from accounts.tokens import create_access_token, create_service_token
from accounts.users import create_user

PASSWORD = "a long enough passphrase"


@dataclass(frozen=True)
class KeyWithSecret:
    api_key: ApiKey
    secret: str
    digest: str


@dataclass(frozen=True)
class TokenWithSecret:
    token: ServiceToken | AccessToken
    secret: str


class ApiClient(Client):
    """A REST client: sends JSON and presents a token."""

    def __init__(self, secret: str = "", **options: Any) -> None:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        super().__init__(headers=headers, **options)

    def post(self, path: str, data: Any = None, content_type: str = "application/json", **options: Any) -> Any:
        return super().post(path, {} if data is None else data, content_type=content_type, **options)


def user(email: str, *, name: str = "", password: str = PASSWORD, is_superuser: bool = False) -> User:
    return create_user(email, password=password, name=name, is_superuser=is_superuser)


def organisation(name: str, owner: User, *, slug: str | None = None, time_zone: str = "UTC") -> Organisation:
    return create_organisation(name, owner, slug=slug, time_zone=time_zone)


def member(organisation: Organisation, user: User, role: str = Role.VIEWER) -> Membership:
    """Invited by an owner and accepted."""
    owner = organisation.memberships.filter(role=Role.OWNER).first().user
    invitation, _ = invite(organisation, user.email, role, invited_by=owner)
    return accept_invitation(invitation, user)


def project(organisation: Organisation, name: str) -> Project:
    return create_project(organisation, name, actor="test")


def default_project(organisation: Organisation) -> Project:
    return Project.objects.for_organisation(organisation).get(is_default=True)


def api_key(
    organisation: Organisation,
    name: str = "A key",
    *,
    project: Project | None = None,
    expires_at: datetime | None = None,
) -> KeyWithSecret:
    key, credential = create_api_key(
        organisation,
        project=project or default_project(organisation),
        name=name,
        actor="test",
        expires_at=expires_at,
    )
    return KeyWithSecret(key, credential.secret, credential.digest)


def service_token(name: str = "A gateway", scopes: Any = SERVICE_SCOPES) -> TokenWithSecret:
    token, credential = create_service_token(name, scopes, actor="test")
    return TokenWithSecret(token, credential.secret)


def access_token(organisation: Organisation, name: str = "Finance", scopes: Any = ACCESS_SCOPES) -> TokenWithSecret:
    token, credential = create_access_token(organisation, name=name, scopes=scopes, actor="test")
    return TokenWithSecret(token, credential.secret)
