from accounts.models.api_keys import ApiKey, ApiKeySecret
from accounts.models.attempts import Attempts
from accounts.models.audit import AuditEntry
from accounts.models.idempotency import IdempotentRequest
from accounts.models.notices import Notice
from accounts.models.organisations import Capability, Invitation, Membership, Organisation, Role
from accounts.models.projects import Project
from accounts.models.tokens import AccessToken, Scope, ServiceToken
from accounts.models.users import User

__all__ = [
    "AccessToken",
    "ApiKey",
    "ApiKeySecret",
    "Attempts",
    "AuditEntry",
    "Capability",
    "IdempotentRequest",
    "Invitation",
    "Membership",
    "Notice",
    "Organisation",
    "Project",
    "Role",
    "Scope",
    "ServiceToken",
    "User",
]
