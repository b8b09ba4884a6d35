"""An organisation with some of everything its pages can show, and which of its things fills which address."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from accounts.memberships import invite
from accounts.models import Membership, Organisation, Role
from billing.catalogue import newest_version
from billing.crediting import grant_credit
from billing.forecasting import make_forecasts
from billing.invoicing import close_period
from billing.models import CreditGrant, CreditPurchase, Invoice, Plan, PlanVersion, Subscription
from billing.payers import parties_of
from billing.subscribing import ensure_billing_details
from metering.intake import accept
from metering.models import Event, RejectedEvent
from metering.quotas import QuotaSpec, define_quota
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, team
from tests.metering.usage_world import event, fold_all, send

NOW = at(2026, 11, 22, 18)
# On the tenth of a month, so that a period of 25 months ago and one of last month end alike.
LATEST_ANCHOR = (2026, 10)


@dataclass(frozen=True)
class World:
    organisation: Organisation
    subscription: Subscription
    # Route name -> the parts of its address; "?" is the query it needs.
    filled: dict[str, dict[str, str]]


def build_world(organisation: Organisation, rows: int = 1) -> World:
    """Everything is there `rows` times: keys, projects, members, tokens, models of the usage, invoices."""
    owner = organisation.memberships.get(role=Role.OWNER).user
    keys = [factories.api_key(organisation, f"Key {number}") for number in range(rows)]
    projects = [factories.project(organisation, f"Project {number}") for number in range(rows)]
    tokens = [factories.access_token(organisation, f"Token {number}") for number in range(rows)]
    members = [_member(organisation, number) for number in range(rows)]
    invitations = [invite(organisation, f"new{n}@acme.example", Role.VIEWER, invited_by=owner)[0] for n in range(rows)]
    subscription, invoices = _history(organisation, rows, [key.api_key.public_id for key in keys])
    key, project = {"public_id": keys[0].api_key.public_id}, {"public_id": projects[0].public_id}
    member, invitation = {"public_id": members[0].public_id}, {"public_id": invitations[0].public_id}
    invoice, other_plan = {"number": str(invoices[-1].number)}, {"?": "?plan=team"}
    accepted = Event.objects.filter(organisation=organisation).order_by("time", "key")[0]
    spec = QuotaSpec(measure="requests", amount=Decimal(1000), window="day")
    limits = [define_quota(organisation, spec, set_by="customer", now=NOW, actor="test") for _ in range(rows)]
    limit = {"public_id": limits[0].public_id}
    credits = [_credit(organisation, number) for number in range(rows)]
    credit = {"public_id": credits[0].public_id}
    purchases = [_purchase(organisation) for _ in range(rows)]
    purchase = {"public_id": purchases[0].public_id}
    filled = {
        **dict.fromkeys(("metering:limit_change", "metering:limit_removal"), limit),
        "accounts:invitation_withdrawal": invitation,
        "accounts:member_role": member,
        "accounts:member_removal": member,
        **{f"accounts:{name}": key for name in ("key", "key_change", "key_rotation", "key_revocation")},
        **{f"accounts:{name}": project for name in ("project", "project_name", "project_archive")},
        "accounts:access_token_revocation": {"public_id": tokens[0].token.public_id},
        "accounts:keys_revocation": {"?": f"?key={key['public_id']}"},
        "billing:invoice": invoice,
        "billing:invoice_payment": invoice,
        "billing:invoice_by_project": invoice,
        **dict.fromkeys([f"billing:credit_purchase{act}" for act in ("", "_payment", "_cancellation")], purchase),
        "billing:subscription_create": other_plan,
        "billing:plan_change": other_plan,
        **dict.fromkeys(("api-key", "api-key-rotation", "api-key-revocation"), key),
        "v1_invoice": invoice,
        **dict.fromkeys(("v1_credit", "v1_credit_movements", "v1_credit_reversal"), credit),
        "v1_subscription": {"public_id": subscription.public_id},
        "rejected-event": {"public_id": _refused(organisation).public_id},
        **{f"rejected-event-{act}": {"rejected_id": "rej_any"} for act in ("replay", "dismissal")},
        "event": {"name": f"{accepted.source}/{accepted.event_id}"},
        "openmeter-meter-query": {"key": "input_tokens", "?": f"?subject={keys[0].api_key.public_id}"},
    }
    return World(organisation, subscription, filled)


def _credit(organisation: Organisation, number: int) -> CreditGrant:
    return grant_credit(
        organisation,
        kind="promotional",
        amount=Decimal(20),
        currency="USD",
        reason=f"Welcome {number}",
        meters=["audio_input_tokens"],
        now=NOW,
    )


def _purchase(organisation: Organisation) -> CreditPurchase:
    """Waiting for its payment."""
    parties = parties_of(organisation, ensure_billing_details(organisation))
    made: CreditPurchase = CreditPurchase.objects.create(
        organisation=organisation,
        environment="test",
        amount_minor=5000,
        currency="USD",
        parties=parties,
        created_at=NOW,
    )
    return made


def _refused(organisation: Organisation) -> RejectedEvent:
    """An event whose amount is no number."""
    refused = event(organisation.public_id, NOW, event_id="refused", input_tokens="many")
    accept([refused], format="test", service_token_id=None, now=NOW)
    return RejectedEvent.objects.get(organisation=organisation)


def _member(organisation: Organisation, number: int) -> Membership:
    user = factories.user(f"member{number}@{organisation.slug}.example", name=f"Member {number}")
    return factories.member(organisation, user, Role.DEVELOPER)


def _history(organisation: Organisation, rows: int, keys: list[str]) -> tuple[Subscription, list[Invoice]]:
    """One invoice for each of the last `rows` months, each with that many lines, and usage of the running month."""
    models = [f"{organisation.slug}-{number}" for number in range(rows)]
    for model in models:
        price("input_tokens", "2.50", model=model)
    year, month = divmod(LATEST_ANCHOR[0] * 12 + LATEST_ANCHOR[1] - rows, 12)
    subscription = subscribed(organisation, _plan_in_force(), anchor=at(year, month + 1, 10))
    for when in (at(2026, 10, 12), at(2026, 11, 20)):
        _use(keys, models, when)
    invoices = [close_period(subscription, now=at(2026, 11, 11)) for _ in range(rows)]
    make_forecasts(NOW)
    return subscription, invoices


def _plan_in_force() -> PlanVersion:
    """Pay as you go; the first time another plan is put beside it."""
    if not Plan.objects.exists():
        team()
        payg()
    return newest_version("payg")


def _use(keys: list[str], models: list[str], when: datetime) -> None:
    pairs = zip(keys, models, strict=True)
    send(*[event(key, when, model=model, input_tokens=18_059_974) for key, model in pairs], now=when)
    fold_all(when + timedelta(seconds=1))
