"""Making users other than by signing up: at the terminal, in the demo world, through an invitation's link."""

from allauth.account.models import EmailAddress
from django.db import transaction
from django.http import HttpRequest

from accounts import audit
from accounts.audit import Actor
from accounts.errors import DomainError
from accounts.models import User


class EmailTaken(DomainError):
    code = "email_taken"
    sentence = "Somebody already has an account with that e-mail address."


@transaction.atomic
def create_user(
    email: str,
    *,
    password: str | None = None,
    name: str = "",
    is_superuser: bool = False,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> User:
    """Make a user whose e-mail address counts as confirmed. Without a password they must reset it to sign in."""
    email = email.strip().lower()
    if User.objects.filter(email=email).exists():
        raise EmailTaken
    make = User.objects.create_superuser if is_superuser else User.objects.create_user
    user = make(email, password, name=name)
    confirm_email(user)
    audit.record("user.created", organisation=None, actor=actor, subject_label=email, request=request)
    return user


def confirm_email(user: User) -> None:
    """Take the user's own address as confirmed, because whoever vouches for it has seen to that."""
    EmailAddress.objects.update_or_create(user=user, email=user.email, defaults={"verified": True, "primary": True})
