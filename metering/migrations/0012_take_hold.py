"""The decision itself, in one call: lock the counters, look whether all have room, write all or nothing."""

from django.db import migrations

# Counters are locked in the order of their keys, here and wherever else they are written, so that calls wait for each
# other and never in a circle. Arrays are in that order already. `room` is null for quotas that only warn.
TAKE_HOLD = """
CREATE FUNCTION take_hold(
    organisation bigint, hold_id text, call text, key_id bigint, project bigint, model_name text, user_name text,
    asked jsonb, unit_prices jsonb, money text, quotas bigint[], subjects text[], starts timestamptz[],
    ends timestamptz[], kinds text[], wanted numeric[], room numeric[], at timestamptz, until timestamptz,
    OUT outcome text, OUT known_id text, OUT used numeric[], OUT held numeric[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT h.id INTO known_id FROM hold h WHERE h.organisation_id = organisation AND h.call_id = call;
    IF FOUND THEN
        outcome := 'known';
        RETURN;
    END IF;
    FOR attempt IN 1..2 LOOP
        SELECT array_agg(w.used), array_agg(w.held) INTO used, held FROM (
            SELECT w.used, w.held FROM quota_window w
            JOIN unnest(quotas, subjects, starts) AS p (quota, subject, start)
              ON w.quota_id = p.quota AND w.subject = p.subject AND w.starts_at = p.start
            WHERE w.organisation_id = organisation
            ORDER BY w.quota_id, w.subject, w.starts_at FOR UPDATE OF w
        ) AS w;
        EXIT WHEN coalesce(cardinality(used), 0) = cardinality(quotas);
        INSERT INTO quota_window (organisation_id, quota_id, subject, starts_at, ends_at, used, held)
        SELECT organisation, p.quota, p.subject, p.start, p.finish, 0, 0
        FROM unnest(quotas, subjects, starts, ends) AS p (quota, subject, start, finish)
        ORDER BY p.quota, p.subject, p.start
        ON CONFLICT DO NOTHING;
    END LOOP;
    IF EXISTS (
        SELECT FROM unnest(used, held, wanted, room) AS c (used, held, wanted, room)
        WHERE c.wanted > 0 AND c.used + c.held + c.wanted > c.room
    ) THEN
        outcome := 'full';
        RETURN;
    END IF;
    INSERT INTO hold (
        organisation_id, id, call_id, api_key_id, project_id, model, end_user, estimate, prices, currency, quota_ids,
        subjects, window_starts, measures, amounts, state, created_at, expires_at, was_late
    ) VALUES (
        organisation, hold_id, call, key_id, project, model_name, user_name, asked, unit_prices, money, quotas,
        subjects, starts, kinds, wanted, 'held', at, until, false
    ) ON CONFLICT (organisation_id, call_id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT h.id INTO known_id FROM hold h WHERE h.organisation_id = organisation AND h.call_id = call;
        outcome := 'known';
        RETURN;
    END IF;
    UPDATE quota_window w SET held = w.held + p.wanted
    FROM unnest(quotas, subjects, starts, wanted) AS p (quota, subject, start, wanted)
    WHERE w.organisation_id = organisation AND w.quota_id = p.quota AND w.subject = p.subject
      AND w.starts_at = p.start;
    outcome := 'held';
END $$
"""
ARGUMENTS = (
    "bigint, text, text, bigint, bigint, text, text, jsonb, jsonb, text, bigint[], text[], timestamptz[], "
    "timestamptz[], text[], numeric[], numeric[], timestamptz, timestamptz"
)


class Migration(migrations.Migration):
    dependencies = [("metering", "0011_admission")]

    operations = [migrations.RunSQL(TAKE_HOLD, f"DROP FUNCTION take_hold({ARGUMENTS})")]
