"""What was looked up for earlier calls is used only while it stands: every change is felt by the very next call."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts import api_keys, organisations, tokens
from accounts.models import ApiKey, ApiKeySecret, Organisation, Project
from metering import quotas
from metering.admission import Admission, TokenEnded, admit, memory
from metering.admission.lookups import LOOK_UP
from metering.models import AdmissionChange, AdmissionSettings, BillingWindow, Hold, Meter, PriceEstimate, Quota
from metering.pruning import CHANGES_KEPT, prune_changes
from tests import factories
from tests.factories import KeyWithSecret
from tests.metering.admission_world import asking, estimate, quota

pytestmark = pytest.mark.django_db(transaction=True)
SECOND = timedelta(seconds=1)


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def world(acme: Organisation, acme_key: KeyWithSecret, now: datetime) -> "World":
    return World(acme, acme_key, now)


@pytest.fixture
def session() -> Iterator["psycopg.Connection[Any]"]:
    """Another client of the database."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as session:
        yield session


class World:
    """An organisation with a limit, a price and a billing window, whose calls are asked about through one token."""

    def __init__(self, organisation: Organisation, key: KeyWithSecret, now: datetime) -> None:
        self.organisation, self.key, self.now = organisation, key, now
        self.token = factories.service_token("gateway").token
        self.limit = quota(organisation, "output_tokens", 500, "none", now=now)
        estimate(organisation, "output_tokens", "0.01", valid_from=now - SECOND)
        BillingWindow.objects.create(
            organisation=organisation, starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=1)
        )

    def ask(self, *, later: timedelta = timedelta(0), **fields: Any) -> Admission:
        request = asking(self.key, **({"output_tokens": 1, "client_ip": "192.0.2.1"} | fields))
        return admit(request, now=self.now + later, service_token_id=self.token.pk)

    def is_remembered(self, *, later: timedelta = timedelta(0)) -> bool:
        asked = {question for question in memory._remembered if question.digest == self.key.digest}
        return bool(memory.recall(asked, self.now + later))


def reason(answer: Admission) -> str:
    return answer.refusal.code if answer.refusal else ""


def models_of(model: str) -> Callable[[World], object]:
    return lambda world: ApiKey.objects.filter(pk=world.key.api_key.pk).update(allowed_models=[model])


def networks_of(network: str) -> Callable[[World], object]:
    return lambda world: ApiKey.objects.filter(pk=world.key.api_key.pk).update(allowed_networks=[network])


REFUSED: dict[str, tuple[Callable[[World], object], str]] = {
    "the key is revoked": (lambda w: api_keys.revoke_api_key(w.key.api_key, actor="test"), "key_revoked"),
    "the key expires": (lambda w: ApiKey.objects.filter(pk=w.key.api_key.pk).update(expires_at=w.now), "key_expired"),
    "its secret expires": (lambda w: ApiKeySecret.objects.update(expires_at=w.now), "key_expired"),
    "its secret is another": (lambda w: ApiKeySecret.objects.update(digest="0" * 64), "key_unknown"),
    "its secret is deleted": (lambda w: ApiKeySecret.objects.all().delete(), "key_unknown"),
    "the key may use another model": (models_of("m-2"), "model_not_allowed"),
    "the key may be used elsewhere": (networks_of("198.51.100.0/24"), "network_not_allowed"),
    "the organisation is suspended": (
        lambda w: organisations.suspend(w.organisation, actor="test"),
        "organisation_suspended",
    ),
    "the project is archived": (lambda w: Project.objects.update(archived_at=w.now), "project_archived"),
    "the plan has other models": (
        lambda w: quotas.set_plan_models(w.organisation, ["m-2"], now=w.now),
        "model_not_allowed",
    ),
    "the limit is lowered": (
        lambda w: quotas.change_quota(w.limit, by_customer=False, amount=Decimal(1)),
        "quota_exceeded",
    ),
    "another limit is set": (
        lambda w: quota(w.organisation, "output_tokens", "0.5", "day", now=w.now),
        "quota_exceeded",
    ),
    "a limit is set by hand": (lambda w: Quota.objects.update(amount=1), "quota_exceeded"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_change_is_felt_by_the_next_call(world, what):
    change, code = REFUSED[what]
    assert world.ask().is_allowed
    assert world.is_remembered()
    change(world)
    answer = world.ask()
    assert reason(answer) == code
    assert Hold.objects.count() == 1


def test_a_limit_that_is_lifted_a_price_and_settings_are_felt_by_the_next_call(world):
    first = world.ask()
    assert (len(first.limits), first.quoted) == (1, Decimal("0.01"))
    quotas.archive_quota(world.limit, by_customer=False, now=world.now)
    assert world.ask().limits == ()
    PriceEstimate.objects.update(unit_price=Decimal("0.02"))
    assert world.ask().quoted == Decimal("0.02")
    AdmissionSettings.objects.create(organisation=world.organisation, when_unreachable="closed")
    assert world.ask().unreachable.mode == "closed"
    AdmissionSettings.objects.update(when_unreachable="open")
    assert world.ask().unreachable.mode == "open"
    Meter.objects.filter(key="output_tokens").update(key="tokens_out")
    quota(world.organisation, "tokens_out", 5, "none", now=world.now)
    assert [limit.unit for limit in world.ask(tokens_out=1, output_tokens=0).limits] == ["tokens_out"]


def test_names_and_zone_of_the_organisation_are_felt_by_the_next_call(world):
    quota(world.organisation, "requests", 10, "day", now=world.now)
    before = world.ask()
    Organisation.objects.update(time_zone="Pacific/Kiritimati", public_id="org_renamed")
    Project.objects.update(public_id="proj_renamed")
    after = world.ask()
    assert (after.organisation, after.project) == ("org_renamed", "proj_renamed")
    assert before.limits[1].resets_at != after.limits[1].resets_at


def test_a_token_that_ended_lets_nothing_through(world):
    assert world.ask().is_allowed
    tokens.revoke_token(world.token, actor="test")
    with pytest.raises(TokenEnded):
        world.ask()


@pytest.mark.parametrize("field", ["starts_at", "ends_at"])
def test_an_increase_begins_and_ends_at_its_moment(world, field):
    bounds = {"starts_at": world.now - SECOND, "ends_at": world.now + timedelta(days=9)} | {field: world.now + SECOND}
    quotas.add_increase(world.limit, Decimal(70), **bounds)
    amounts = [world.ask(later=SECOND * late).limits[0].amount for late in (0, 0.999999, 1)]
    assert amounts == ([500, 500, 570] if field == "starts_at" else [570, 570, 500])
    assert world.is_remembered(later=SECOND)


def test_prices_and_billing_periods_change_at_their_moment(world):
    quota(world.organisation, "requests", 9, "billing_period", now=world.now)
    estimate(world.organisation, "output_tokens", "0.03", valid_from=world.now + SECOND)
    ends_at = world.now + timedelta(days=1)
    BillingWindow.objects.create(organisation=world.organisation, starts_at=ends_at, ends_at=ends_at + SECOND)

    assert [world.ask(later=SECOND * late).quoted for late in (0, 1)] == [Decimal("0.01"), Decimal("0.03")]
    at = timedelta(days=1)
    resets = [world.ask(later=late).limits[1].resets_at for late in (at - SECOND, at)]
    assert resets == [ends_at, ends_at + SECOND]


def test_a_key_expires_at_its_moment_while_it_is_remembered(world):
    ApiKey.objects.update(expires_at=world.now + SECOND)
    assert world.ask().is_allowed
    assert reason(world.ask(later=SECOND)) == "key_expired"


def test_what_is_remembered_refuses_nobody_by_itself(world):
    ApiKey.objects.update(allowed_networks=["192.0.2.0/24"])
    assert world.ask().is_allowed
    assert reason(world.ask(client_ip="198.51.100.1")) == "network_not_allowed"
    assert world.ask().is_allowed


def test_a_transaction_that_was_open_during_the_look_up_is_felt_when_it_commits(world, session):
    """The one that began later commits first, and the look-up is between the two."""
    session.execute("UPDATE accounts_apikey SET allowed_models = ARRAY['m-2']")
    quotas.change_quota(world.limit, by_customer=False, amount=Decimal(400))
    assert world.ask().limits[0].amount == 400
    session.commit()
    assert reason(world.ask()) == "model_not_allowed"


def test_while_an_old_transaction_runs_what_has_changed_since_is_looked_up_each_time(world, session):
    session.execute("SELECT pg_current_xact_id()")
    quotas.change_quota(world.limit, by_customer=False, amount=Decimal(400))
    assert world.ask().is_allowed
    assert not world.is_remembered()
    session.commit()
    assert world.ask().is_allowed
    assert world.is_remembered()


def test_what_is_never_committed_is_not_remembered(world):
    with transaction.atomic():
        quotas.change_quota(world.limit, by_customer=False, amount=Decimal(400))
        assert world.ask().limits[0].amount == 400
        transaction.set_rollback(True)
    assert world.ask().limits[0].amount == 500
    with transaction.atomic():
        quotas.change_quota(world.limit, by_customer=False, amount=Decimal(400))
        assert world.ask().limits[0].amount == 400, "its own change is felt before it commits"


def test_one_organisations_change_leaves_others_remembered(world, globex, session, now):
    other = World(globex, factories.api_key(globex), now)
    assert world.ask().is_allowed
    assert other.ask().is_allowed
    quotas.change_quota(other.limit, by_customer=False, amount=Decimal(1))
    kept = dict(memory._remembered)
    assert world.ask().is_allowed
    assert reason(other.ask()) != ""
    renewed = {question for question, one in memory._remembered.items() if kept.get(question) is not one}
    assert {question.digest for question in renewed} == {other.key.digest}


def test_every_table_that_is_looked_up_is_watched():
    read = set(re.findall(r"(?:FROM|JOIN) ([a-z]\w+)", LOOK_UP)) - {"unnest", "admission_change"}
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'note_admission_change'")
        watched = {table for (table,) in cursor.fetchall()}
    assert read == watched


def test_changes_of_long_ago_are_forgotten(world, now):
    assert AdmissionChange.objects.exists()
    assert prune_changes(now) == 0
    assert prune_changes(now + CHANGES_KEPT + timedelta(hours=1)) > 0
    assert not AdmissionChange.objects.exists()
