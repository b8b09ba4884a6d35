"""Who calls the REST API, and whether the token's scopes allow it."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission


class TokenAuthentication(BaseAuthentication):
    pass


class HasScope(BasePermission):
    pass
