"""What folding costs follows what is folded, not how many organisations there are."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction

from metering.aggregation import fold_pending
from metering.models import Aggregation, UsageDay
from tests import factories
from tests.metering.meters_world import meter
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
ORGANISATIONS = 40


class PlansOfFolds:
    """Has the statements that write days explained, with what they really did, before they run."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT INTO usage_day" in sql and not sql.startswith("EXPLAIN"):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                found = cursor.fetchone()[0]
                self.plans += [one["Plan"] for one in (json.loads(found) if isinstance(found, str) else found)]
                transaction.set_rollback(True)
        return execute(sql, params, many, context)


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from steps(below)


def rows_looked_at(step: dict[str, Any]) -> float:
    kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    return sum(step.get(kind, 0) for kind in kinds) * step["Actual Loops"]


def test_no_step_of_a_fold_goes_through_all_readings_for_every_organisation(olivia):
    meter("peak", aggregation=Aggregation.MAX, value_field="load")
    meter("users", aggregation=Aggregation.UNIQUE_COUNT, value_field="user")
    made = [factories.organisation(f"Member {number}", olivia) for number in range(ORGANISATIONS)]
    keys = [factories.api_key(one).api_key.public_id for one in made]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_organisation")
    for key in keys:
        send(event(key, NOW, input_tokens=10, load=3, user="ann"), now=NOW)

    plans = PlansOfFolds()
    with connection.execute_wrapper(plans):
        fold_pending(now=NOW)

    assert UsageDay.objects.count() == ORGANISATIONS * 4  # input_tokens, requests, peak, users
    assert len(plans.plans) == 2
    assert max(rows_looked_at(step) for plan in plans.plans for step in steps(plan)) < ORGANISATIONS**2 / 2
