"""What decides about a call, in one look-up: all but the counters themselves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec

from accounts.api_auth import LIVE_TOKEN
from accounts.api_keys import FIND_PRESENTED_KEY, PresentedKey
from accounts.key_restrictions import allows_model
from accounts.prepared import as_array, run_prepared
from metering.admission.requests import Unreachable
from metering.quota_windows import Span

# Whose change of what calls hang on is everybody's.
EVERYBODY = 0
_KEY_COLUMNS = PresentedKey.__struct_fields__
# A row for each, whether or not there is such a key; numbers travel as text, since JSON would make them floating.
LOOK_UP = f"""
SELECT a.token IS NULL OR {LIVE_TOKEN.replace("%(token)s", "a.token")},
  {", ".join(f"k.{name}" for name in _KEY_COLUMNS)},
  (SELECT row_to_json(s)::text FROM (
      SELECT when_unreachable, unreachable_amount::text, unreachable_requests, currency, default_input_tokens,
             default_output_tokens, plan_models
      FROM metering_admissionsettings WHERE organisation_id = k.organisation_id) AS s),
  (SELECT json_agg(q)::text FROM (
      SELECT q.id, q.public_id, q.measure, m.key AS meter, q.scope, q.end_user, q.window, q.currency, q.set_by,
             q.enforcement = 'hard' AS is_hard, q.model_patterns,
             (q.amount + coalesce((SELECT sum(i.amount) FROM metering_quotaincrease i
                                   WHERE i.quota_id = q.id AND i.starts_at <= %(received_at)s
                                     AND i.ends_at > %(received_at)s), 0)
             )::text AS amount
      FROM metering_quota q LEFT JOIN metering_meter m ON m.id = q.meter_id
      WHERE q.organisation_id = k.organisation_id AND q.archived_at IS NULL
        AND CASE q.scope WHEN 'project' THEN q.project_id = k.project_id
                         WHEN 'api_key' THEN q.api_key_id = k.api_key_id
                         WHEN 'end_user' THEN a.end_user <> '' AND q.end_user IN ('', a.end_user)
                         ELSE true END
      ORDER BY q.id) AS q),
  (SELECT json_agg(p)::text FROM (
      SELECT DISTINCT ON (meter_key) meter_key, unit_price::text, currency FROM price_estimate
      WHERE organisation_id = k.organisation_id AND model IN (a.model, '') AND valid_from <= %(received_at)s
      ORDER BY meter_key, model <> '' DESC, valid_from DESC) AS p),
  (SELECT ARRAY[starts_at, ends_at] FROM billing_window
   WHERE organisation_id = k.organisation_id AND starts_at <= %(received_at)s AND ends_at > %(received_at)s LIMIT 1),
  (SELECT s.since FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint) AS s (since)
   WHERE NOT EXISTS (SELECT FROM admission_change
                     WHERE organisation_id IN (k.organisation_id, {EVERYBODY}) AND changed_by >= s.since)),
  LEAST(
    (SELECT expires_at FROM accounts_servicetoken WHERE id = a.token AND expires_at > %(received_at)s),
    (SELECT min(CASE WHEN i.starts_at > %(received_at)s THEN i.starts_at ELSE i.ends_at END)
     FROM metering_quotaincrease i JOIN metering_quota q ON q.id = i.quota_id
     WHERE q.organisation_id = k.organisation_id AND i.ends_at > %(received_at)s),
    (SELECT min(valid_from) FROM price_estimate
     WHERE organisation_id = k.organisation_id AND model IN (a.model, '') AND valid_from > %(received_at)s),
    (SELECT min(CASE WHEN starts_at > %(received_at)s THEN starts_at ELSE ends_at END) FROM billing_window
     WHERE organisation_id = k.organisation_id AND ends_at > %(received_at)s))
FROM unnest(%(digests)s::text[], %(models)s::text[], %(end_users)s::text[], %(tokens)s::bigint[])
     WITH ORDINALITY AS a (digest, model, end_user, token, place)
LEFT JOIN LATERAL ({FIND_PRESENTED_KEY.replace("%s", "a.digest")}) AS k ({", ".join(_KEY_COLUMNS)}) ON true
ORDER BY a.place"""  # noqa: S608 (of names in the code)


class QuotaInForce(msgspec.Struct, frozen=True, gc=False):
    """A quota that a call may touch, with what was added to it for now."""

    id: int
    public_id: str
    measure: str
    meter: str | None
    scope: str
    end_user: str
    window: str
    currency: str
    set_by: str
    is_hard: bool
    model_patterns: tuple[str, ...]
    amount: Decimal

    def is_about(self, model: str) -> bool:
        return allows_model(self.model_patterns, model)

    @property
    def kind(self) -> str:
        """How a hold names what is counted."""
        return f"meter:{self.meter}" if self.measure == "meter" else self.measure


class Terms(msgspec.Struct, frozen=True, gc=False):
    quotas: tuple[QuotaInForce, ...]
    # The most a unit of a meter can cost, for this model.
    prices: Mapping[str, Decimal]
    currency: str
    billing: Span | None
    unreachable: Unreachable
    default_input_tokens: int
    default_output_tokens: int
    plan_models: tuple[str, ...]


class Question(NamedTuple):
    """What one call asks for."""

    digest: str
    model: str
    end_user: str
    # Of the gateway's service token, where that is only remembered.
    token: int | None = None


class Found(msgspec.Struct, frozen=True, gc=False):
    # True where no token was asked about.
    is_token_live: bool
    # None: there is no such key.
    key: PresentedKey | None
    terms: Terms
    # When it was read, and when it will be otherwise by the clock alone; None: never.
    at: datetime
    until: datetime | None
    # Of the transactions with lower numbers, all had ended. None: of the others, one has changed something already.
    since: int | None

    def holds_good(self, now: datetime) -> bool:
        """Unless something was changed meanwhile."""
        return self.at <= now and (self.until is None or now < self.until)


def look_up(questions: Sequence[Question], now: datetime) -> list[Found]:
    """The answers in the order of the questions: keys and everything but the counters themselves, in one look-up."""
    distinct = list(dict.fromkeys(questions))
    digests, models, end_users, tokens = map(as_array, zip(*distinct, strict=True))
    places = {"digests": digests, "models": models, "end_users": end_users, "tokens": tokens, "received_at": now}
    rows = run_prepared(LOOK_UP, places).fetchall()
    found = {question: _found(row, now) for question, row in zip(distinct, rows, strict=True)}
    return [found[question] for question in questions]


def _found(row: Sequence[Any], now: datetime) -> Found:
    is_token_live, *of_key, settings, quotas, prices, billing, since, until = row
    key = PresentedKey(*of_key)
    return Found(
        is_token_live=is_token_live,
        key=None if key.api_key_id is None else key,
        terms=_terms(settings, quotas, prices, billing),
        at=now,
        until=until,
        since=since,
    )


class _Settings(msgspec.Struct, frozen=True, gc=False):
    """Of an organisation that has chosen none: the defaults."""

    when_unreachable: Literal["open", "closed"] = Unreachable().mode
    unreachable_amount: Decimal | None = Unreachable().max_amount
    unreachable_requests: int | None = Unreachable().max_requests
    currency: str = Unreachable().currency
    default_input_tokens: int = 2000
    default_output_tokens: int = 1000
    plan_models: tuple[str, ...] = ()


class _Price(msgspec.Struct, frozen=True, gc=False):
    meter_key: str
    unit_price: Decimal
    currency: str


_settings = msgspec.json.Decoder(_Settings).decode
_quotas = msgspec.json.Decoder(tuple[QuotaInForce, ...]).decode
_prices = msgspec.json.Decoder(list[_Price]).decode


def _terms(settings: str | None, quotas: str | None, prices: str | None, billing: list[datetime] | None) -> Terms:
    chosen = _settings(settings or "{}")
    priced = _prices(prices or "[]")
    return Terms(
        quotas=_quotas(quotas or "[]"),
        prices={price.meter_key: price.unit_price for price in priced},
        currency=priced[0].currency if priced else "",
        billing=Span(*billing) if billing else None,
        unreachable=Unreachable(
            mode=chosen.when_unreachable,
            max_amount=chosen.unreachable_amount,
            currency=chosen.currency,
            max_requests=chosen.unreachable_requests,
        ),
        default_input_tokens=chosen.default_input_tokens,
        default_output_tokens=chosen.default_output_tokens,
        plan_models=chosen.plan_models,
    )
