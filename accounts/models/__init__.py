from accounts.models.api_keys import ApiKey, ApiKeySecret
from accounts.models.audit import AuditEntry
from accounts.models.idempotency import IdempotentRequest
from accounts.models.organisations import Capability, Invitation, Membership, Organisation, Role
from accounts.models.projects import Project
from accounts.models.tokens import AccessToken, Scope, ServiceToken
from accounts.models.users import User

__all__ = [
    "AccessToken",
    "ApiKey",
    "ApiKeySecret",
    "AuditEntry",
    "Capability",
    "IdempotentRequest",
    "Invitation",
    "Membership",
    "Organisation",
    "Project",
    "Role",
    "Scope",
    "ServiceToken",
    "User",
]
