"""Makes the demo world through the real verbs. Every step looks whether it was done before."""

import json
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import batched, groupby
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction

from accounts.api_keys import create_api_key, revoke_api_key
from accounts.errors import DomainError
from accounts.memberships import accept_invitation, invite
from accounts.models import ApiKey, Membership, Organisation, Project, Role, User
from accounts.models.tokens import ACCESS_SCOPES, SERVICE_SCOPES
from accounts.organisations import create_organisation
from accounts.projects import create_project
from accounts.tokens import create_access_token, create_service_token
from accounts.users import create_user
from billing import stripe_gateway, stripe_sync
from billing.catalogue import newest_version
from billing.couponing import redeem
from billing.crediting import expire_grants
from billing.demo.credits import agree_on_paying_before, grant_credits
from billing.demo.history import events
from billing.demo.offers import ACTOR, make_coupons, publish_plans, write_prices
from billing.demo.stories import STORIES, Person, Story
from billing.forecasting import make_forecasts
from billing.invoicing import close_period
from billing.margins import compute_margins
from billing.models import BillingDetails, Invoice, Subscription
from billing.periods import quarter_hour_floor
from billing.schedules import earliest_open_period
from billing.subscribing import change_plan, subscribe
from metering.aggregation import fold_pending
from metering.intake import Draft, accept
from metering.partitions import ensure_event_partitions
from metering.sealing import newest_seal, seal_days

PASSWORD = "kilotoken-demo"
OPERATOR = Person("Oscar Operator", "operator@kilotoken.example", Role.OWNER)
EVENTS_PER_BATCH = 2_000
# Two whole periods and the running one.
PERIODS_BEFORE = 2

type Progress = Callable[[str], None]


class LiveKeyConfigured(DomainError):
    code = "live_key_configured"
    sentence = "The demo world sends invoices, so it is not made where a live Stripe key is configured."


@dataclass(frozen=True, slots=True)
class World:
    """What was made, and the secrets that only now can be told."""

    logins: list[dict[str, str]]
    tokens: dict[str, str]
    events: int
    invoices: list[dict[str, str]] = field(default_factory=list)


def create_world(*, now: datetime, progress: Progress = lambda line: None) -> World:
    """Plans, prices, people, keys, two months of usage and the bills they led to."""
    if stripe_gateway.expects_live_events():
        raise LiveKeyConfigured
    ensure_event_partitions(now=now)
    write_prices()
    publish_plans(now)
    make_coupons()
    operator = _user(OPERATOR, is_superuser=True)
    count, invoices = 0, []
    for story in STORIES:
        progress(f"{story.name}: people, keys and usage")
        organisation = _organisation(story)
        subscription = _subscription(story, organisation, now)
        count += _use(story, organisation, start=subscription.anchor_at, now=now)
        grant_credits(story, organisation, start=subscription.anchor_at, now=now)
        invoices += _close(story, subscription, now)
        expire_grants(now)
        agree_on_paying_before(story, organisation, now)
    progress("Seals")
    while seal_days(now=now).more:
        pass
    progress("Forecasts and margins")
    make_forecasts(now)
    compute_margins(now)
    progress("Invoices to Stripe")
    _collect(now)
    return World(_logins(), _tokens(operator), count, [_told(invoice) for invoice in invoices])


# --- Who ----------------------------------------------------------------------------------------------------------


def _user(person: Person, *, is_superuser: bool = False) -> User:
    found = User.objects.filter(email=person.email).first()
    return found or create_user(person.email, password=PASSWORD, name=person.name, is_superuser=is_superuser)


def _organisation(story: Story) -> Organisation:
    owner, *others = [_user(person) for person in story.people]
    organisation = Organisation.objects.filter(slug=story.slug).first()
    if organisation is None:
        organisation = create_organisation(story.name, owner, slug=story.slug, time_zone=story.zone, actor=ACTOR)
    for user, person in zip(others, story.people[1:], strict=True):
        if not Membership.objects.filter(organisation=organisation, user=user).exists():
            invitation, _ = invite(organisation, user.email, person.role, invited_by=owner)
            accept_invitation(invitation, user)
    for name, project in story.keys.items():
        _key(organisation, name, project)
    return organisation


def _key(organisation: Organisation, name: str, project_name: str) -> ApiKey:
    found = ApiKey.objects.for_organisation(organisation).filter(name=name).first()
    if found is not None:
        return found
    project = Project.objects.for_organisation(organisation).filter(name=project_name).first()
    project = project or create_project(organisation, project_name, actor=ACTOR)
    return create_api_key(organisation, project=project, name=name, actor=ACTOR)[0]


# --- Usage --------------------------------------------------------------------------------------------------------


def _subscription(story: Story, organisation: Organisation, now: datetime) -> Subscription:
    found = Subscription.objects.for_organisation(organisation).current().first()
    if found is not None:
        return found
    with transaction.atomic():
        subscription = _subscribed(story, organisation, now)
    BillingDetails.objects.filter(organisation=organisation).update(
        legal_name=story.legal_name, address=story.address, country=story.country
    )
    return subscription


def _subscribed(story: Story, organisation: Organisation, now: datetime) -> Subscription:
    """With everything that happened to the subscription since."""
    anchor = _anchor(story, now)
    subscription = subscribe(
        organisation, newest_version(story.plan), now=now, anchor=anchor, trial_days=story.trial_days, actor=ACTOR
    )
    if story.coupon:
        redeem(subscription, story.coupon, now=anchor + timedelta(days=story.trial_days + 1), actor=ACTOR)
    for change in story.plan_changes:
        changed_at = anchor + timedelta(days=change.after_days, hours=change.after_hours)
        change_plan(subscription, newest_version(change.plan), now=changed_at, at_once=True, actor=ACTOR)
    return subscription


def _anchor(story: Story, now: datetime) -> datetime:
    """Midnight of the running period's first day, two months earlier. Days past the 28th become the 28th."""
    zone = ZoneInfo(story.zone)
    first = now.astimezone(zone).date() - timedelta(days=story.period_age_days)
    months = first.year * 12 + first.month - 1 - PERIODS_BEFORE
    first = first.replace(year=months // 12, month=months % 12 + 1, day=min(first.day, 28))
    return quarter_hour_floor(datetime.combine(first, time(), zone).astimezone(UTC))


def _use(story: Story, organisation: Organisation, *, start: datetime, now: datetime) -> int:
    """Send the history through intake, fold it, and revoke what was revoked since; returns how many were new."""
    keys = {key.name: key for key in ApiKey.objects.for_organisation(organisation)}
    subjects: Mapping[str, str] = {name: key.public_id for name, key in keys.items()}
    accepted = 0
    # The first time, each day's usage is received at its end, so that bills and seals are as if it had happened live.
    is_new = newest_seal(organisation) is None
    for drafts in _by_day(events(story.history, subjects=subjects, start=start, end=now), story.history.zone):
        received_at = drafts[-1].time if is_new else None
        verdicts = accept(drafts, format="demo", service_token_id=None, now=received_at or now, backfill=True)
        accepted += sum(verdict.verdict == "accepted" for verdict in verdicts)
    while fold_pending(now=now, organisation=organisation).batches:
        pass
    for name in story.revoked:
        revoke_api_key(keys[name], actor=ACTOR)
    return accepted


def _by_day(drafts: Iterable[Draft], zone: tzinfo) -> Iterator[tuple[Draft, ...]]:
    for _, of_day in groupby(drafts, key=lambda draft: draft.time and draft.time.astimezone(zone).date()):
        yield from batched(of_day, EVENTS_PER_BATCH, strict=False)


# --- Bills --------------------------------------------------------------------------------------------------------


def _close(story: Story, subscription: Subscription, now: datetime) -> list[Invoice]:
    """Close the periods that are not left to the operator, two hours after their ends."""
    invoices = list(Invoice.objects.filter(subscription=subscription).order_by("period_start"))
    for _ in story.endings[len(invoices) :]:
        period = earliest_open_period(subscription)
        if period is None or period.end > now or story.endings[len(invoices)] == "ended":
            break
        closed_at = period.end + timedelta(hours=2)
        while seal_days(now=closed_at).more:
            pass
        invoices.append(close_period(subscription, now=closed_at, actor=ACTOR))
    return invoices


def _collect(now: datetime) -> None:
    """Push what was closed and, where the sandbox stands in for Stripe, let the customers pay what they paid."""
    if not stripe_gateway.is_configured() or not settings.STRIPE_API_BASE:
        return
    stripe_sync.push_waiting(now=now)
    for story in STORIES:
        invoices = Invoice.objects.filter(organisation__slug=story.slug).order_by("period_start")
        for invoice, ending in zip(invoices, story.endings, strict=False):
            if ending == "paid" and not invoice.is_settled:
                _pay(invoice, now)


def _pay(invoice: Invoice, now: datetime) -> None:
    body = json.dumps({"invoice": invoice.stripe_invoice.stripe_id, "payment_method": "pm_card_visa"}).encode()
    address = f"{settings.STRIPE_API_BASE}/_control/pay"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        stripe_sync.refresh_invoice(invoice.pk, now=now)


# --- What to tell -------------------------------------------------------------------------------------------------


def _logins() -> list[dict[str, str]]:
    people = [(f"{person.role.label} of {story.name}", person) for story in STORIES for person in story.people]
    return [
        {"what": what, "email": person.email, "password": PASSWORD}
        for what, person in [("Operator (/admin/)", OPERATOR), *people]
    ]


def _tokens(operator: User) -> dict[str, str]:
    """New tokens each time, since secrets are not kept."""
    _, service = create_service_token("Demo gateway", SERVICE_SCOPES, actor=operator)
    northwind = Organisation.objects.get(slug=STORIES[0].slug)
    _, access = create_access_token(northwind, name="Demo finance", scopes=ACCESS_SCOPES, actor=operator)
    return {"service_token": service.secret, "access_token": access.secret, "access_token_of": northwind.slug}


def _told(invoice: Invoice) -> dict[str, str]:
    invoice.refresh_from_db()
    return {
        "number": invoice.number,
        "organisation": invoice.organisation.slug,
        "state": invoice.state,
        "total_minor": str(invoice.total_minor),
        "currency": invoice.currency,
    }
