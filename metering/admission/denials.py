"""The history of refusals: one row per minute, key, reason and model, however many calls were refused."""

from datetime import datetime

from accounts.api_keys import PresentedKey
from accounts.prepared import run_prepared
from metering.admission.requests import AdmissionRequest, Refusal
from metering.models.quotas import Denial

# Losing the last of these in a crash harms nobody, and waiting for the disk would slow down who is refused most.
NOTE = """
INSERT INTO metering_denial AS kept
    (organisation_id, minute, api_key_id, project_id, code, quota_id, model, end_user, message, count, last_at)
SELECT %(organisation)s, date_trunc('minute', %(now)s::timestamptz), %(key)s, %(project)s, %(code)s,
       coalesce((SELECT id FROM metering_quota WHERE public_id = %(quota)s), 0),
       %(model)s, %(end_user)s, %(message)s, 1, %(now)s
FROM set_config('synchronous_commit', 'off', true)
ON CONFLICT (organisation_id, minute, api_key_id, code, quota_id, model, end_user)
DO UPDATE SET count = kept.count + 1, last_at = excluded.last_at, message = excluded.message"""


def note(key: PresentedKey, request: AdmissionRequest, refusal: Refusal, now: datetime) -> None:
    run_prepared(
        NOTE,
        {
            "organisation": key.organisation_id,
            "now": now,
            "key": key.api_key_id,
            "project": key.project_id,
            "code": refusal.code,
            "quota": refusal.limit.quota if refusal.limit else "",
            "model": request.model[:200],
            "end_user": request.end_user,
            "message": refusal.message[:500],
        },
    )


def forget_denials_before(instant: datetime) -> int:
    count, _ = Denial.objects.filter(minute__lt=instant).delete()
    return count
