"""The cast: acme with olivia, martin and vera; globex with gus; an operator; keys and tokens."""

from collections.abc import Callable
from importlib import import_module

import pytest
from django.apps import apps
from django.test import Client, override_settings

from accounts.api_keys import forget_subjects, revoke_api_key
from accounts.models import Organisation, Role, User
from metering.models import Meter
from tests import factories
from tests.factories import ApiClient, KeyWithSecret, TokenWithSecret

# The migrations that define the first meters.
METERS = (("0002_genai_meters", "define_meters"), ("0024_genai_service_tier", "keep_service_tiers"))


@pytest.fixture(autouse=True, scope="session")
def _quick_passwords():
    """Hashing a password is slow on purpose; the cast has many and none is worth anything."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def _fresh_memory():
    """No test sees what another left in a process-wide cache."""
    forget_subjects()


@pytest.fixture(autouse=True)
def _meters(request):
    """Tests with real commits empty every table behind themselves, also those that migrations filled."""
    names = {"db", "transactional_db", "django_db_setup"} & set(request.fixturenames)
    if names or request.node.get_closest_marker("django_db"):
        request.getfixturevalue("_django_db_helper")
        if not Meter.objects.exists():
            for name, define in METERS:
                getattr(import_module(f"metering.migrations.{name}"), define)(apps, None)


@pytest.fixture
def olivia(db) -> User:
    """Owner of acme."""
    return factories.user("olivia@acme.example", name="Olivia Ortiz")


@pytest.fixture
def acme(olivia) -> Organisation:
    return factories.organisation("Acme", olivia, slug="acme", time_zone="Europe/Berlin")


@pytest.fixture
def martin(acme) -> User:
    """Developer at acme."""
    user = factories.user("martin@acme.example", name="Martin Maier")
    factories.member(acme, user, Role.DEVELOPER)
    return user


@pytest.fixture
def vera(acme) -> User:
    """Viewer at acme."""
    user = factories.user("vera@acme.example", name="Vera Vogel")
    factories.member(acme, user, Role.VIEWER)
    return user


@pytest.fixture
def acme_key(acme) -> KeyWithSecret:
    return factories.api_key(acme, "Production")


@pytest.fixture
def acme_revoked_key(acme) -> KeyWithSecret:
    key = factories.api_key(acme, "Old laptop")
    revoke_api_key(key.api_key, actor="test")
    return key


@pytest.fixture
def acme_access_token(acme) -> TokenWithSecret:
    return factories.access_token(acme)


@pytest.fixture
def gus(db) -> User:
    """Owner of globex: to him, nothing of acme exists."""
    return factories.user("gus@globex.example", name="Gus Gruber")


@pytest.fixture
def globex(gus) -> Organisation:
    return factories.organisation("Globex", gus, slug="globex")


@pytest.fixture
def operator(db) -> User:
    return factories.user("operator@kilotoken.example", name="Oscar Operator", is_superuser=True)


@pytest.fixture
def service_token(db) -> TokenWithSecret:
    """All scopes, every organisation."""
    return factories.service_token()


@pytest.fixture
def client_for() -> Callable[[User], Client]:
    """A browser in which that user is signed in."""

    def signed_in(user: User) -> Client:
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return signed_in


@pytest.fixture
def api() -> Callable[[str], ApiClient]:
    """A REST client that presents that secret."""
    return ApiClient
