"""Holds of concurrent calls are taken in one statement, each judged after the ones before it."""

from importlib import import_module

from django.db import migrations

# Counters come once each, in the order in which they are locked here and wherever else they are written, so that calls
# wait for each other and never in a circle. Where one has to be made, those that are there are locked on the way, by an
# update that changes nothing: folding takes new and old ones in one go, too. Rows are inserted in order for the same
# reason. `room` is null for quotas that only warn. Hardly any call is asked about twice, so it is tried without looking
# for the holds of earlier answers; where there is one, nothing is done: ask again and look first. Plans are made once
# and go by keys, however small the tables were then.
TAKE_HOLDS = """
CREATE FUNCTION take_holds(
    owners bigint[], quotas bigint[], subjects text[], starts timestamptz[], ends timestamptz[],
    counters int[], kinds text[], wanted numeric[], room numeric[],
    firsts int[], lasts int[], organisations bigint[], hold_ids text[], calls text[], key_ids bigint[],
    projects bigint[], models text[], end_users text[], estimates jsonb[], unit_prices jsonb[], currencies text[],
    untils timestamptz[], at timestamptz, look_first boolean,
    longest_wait text,
    OUT outcomes text[], OUT known_ids text[], OUT used numeric[], OUT held numeric[]
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_material = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    now_used numeric[];
    now_held numeric[];
    place int;
    is_full boolean;
    known_id text;
    admitted int := 0;
    written int;
BEGIN
    PERFORM set_config('lock_timeout', longest_wait, true);
    IF EXISTS (
        SELECT FROM unnest(owners, quotas, subjects, starts) AS c (owner, quota, subject, start)
        WHERE (SELECT w.used FROM quota_window w WHERE w.organisation_id = c.owner AND w.quota_id = c.quota
                                                   AND w.subject = c.subject AND w.starts_at = c.start) IS NULL
    ) THEN
        INSERT INTO quota_window AS w (organisation_id, quota_id, subject, starts_at, ends_at, used, held)
        SELECT c.owner, c.quota, c.subject, c.start, c.finish, 0, 0
        FROM unnest(owners, quotas, subjects, starts, ends) AS c (owner, quota, subject, start, finish)
        ORDER BY c.owner, c.quota, c.subject, c.start
        ON CONFLICT (organisation_id, quota_id, subject, starts_at) DO UPDATE SET held = w.held WHERE false;
    END IF;
    SELECT array_agg(w.used ORDER BY w.place), array_agg(w.held ORDER BY w.place) INTO now_used, now_held FROM (
        SELECT w.used, w.held, c.place FROM quota_window w
        JOIN unnest(owners, quotas, subjects, starts) WITH ORDINALITY AS c (owner, quota, subject, start, place)
          ON w.organisation_id = c.owner AND w.quota_id = c.quota AND w.subject = c.subject AND w.starts_at = c.start
        ORDER BY w.organisation_id, w.quota_id, w.subject, w.starts_at FOR UPDATE OF w
    ) AS w;
    IF coalesce(cardinality(now_used), 0) < cardinality(owners) THEN
        RAISE EXCEPTION 'a counter was forgotten meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    known_ids := array_fill(NULL::text, ARRAY[cardinality(calls)]);
    IF look_first THEN
        known_ids := ARRAY(
            SELECT (SELECT h.id FROM hold h WHERE h.organisation_id = c.organisation AND h.call_id = c.call_id)
            FROM unnest(organisations, calls) WITH ORDINALITY AS c (organisation, call_id, place)
            ORDER BY c.place
        );
    END IF;
    outcomes := array_fill('held'::text, ARRAY[cardinality(calls)]);
    used := array_fill(0::numeric, ARRAY[cardinality(counters)]);
    held := used;
    FOR nr IN 1..cardinality(calls) LOOP
        is_full := false;
        FOR nth IN firsts[nr]..lasts[nr] LOOP
            place := counters[nth];
            used[nth] := now_used[place];
            held[nth] := now_held[place];
            is_full := is_full
                OR wanted[nth] > 0 AND coalesce(now_used[place] + now_held[place] + wanted[nth] > room[nth], false);
        END LOOP;
        IF known_ids[nr] IS NOT NULL THEN
            outcomes[nr] := 'known';
        ELSIF is_full THEN
            SELECT h.id INTO known_id FROM hold h WHERE h.organisation_id = organisations[nr] AND h.call_id = calls[nr];
            known_ids[nr] := known_id;
            outcomes[nr] := CASE WHEN known_id IS NULL THEN 'full' ELSE 'known' END;
        ELSE
            admitted := admitted + 1;
            FOR nth IN firsts[nr]..lasts[nr] LOOP
                now_held[counters[nth]] := now_held[counters[nth]] + wanted[nth];
            END LOOP;
        END IF;
    END LOOP;
    IF admitted = 0 THEN
        RETURN;
    END IF;

    INSERT INTO hold (
        organisation_id, id, call_id, api_key_id, project_id, model, end_user, estimate, prices, currency, quota_ids,
        subjects, window_starts, measures, amounts, state, created_at, expires_at, was_late
    )
    SELECT organisations[i], hold_ids[i], calls[i], key_ids[i], projects[i], models[i], end_users[i], estimates[i],
           unit_prices[i], currencies[i],
           ARRAY(SELECT quotas[c] FROM unnest(counters[firsts[i]:lasts[i]]) AS c),
           ARRAY(SELECT subjects[c] FROM unnest(counters[firsts[i]:lasts[i]]) AS c),
           ARRAY(SELECT starts[c] FROM unnest(counters[firsts[i]:lasts[i]]) AS c),
           kinds[firsts[i]:lasts[i]], wanted[firsts[i]:lasts[i]], 'held', at, untils[i], false
    FROM generate_series(1, cardinality(calls)) AS i
    WHERE outcomes[i] = 'held'
    ORDER BY organisations[i], calls[i]
    ON CONFLICT (organisation_id, call_id) DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < admitted THEN
        RAISE EXCEPTION 'one of the calls was admitted before' USING ERRCODE = 'serialization_failure';
    END IF;
    UPDATE quota_window w SET held = c.held
    FROM unnest(owners, quotas, subjects, starts, now_held) AS c (owner, quota, subject, start, held)
    WHERE w.organisation_id = c.owner AND w.quota_id = c.quota AND w.subject = c.subject AND w.starts_at = c.start
      AND w.held <> c.held;
END $$
"""
ARGUMENTS = (
    "bigint[], bigint[], text[], timestamptz[], timestamptz[], int[], text[], numeric[], numeric[], int[], int[], "
    "bigint[], text[], text[], bigint[], bigint[], text[], text[], jsonb[], jsonb[], text[], timestamptz[], "
    "timestamptz, boolean, text"
)

one_by_one = import_module("metering.migrations.0012_take_hold")


class Migration(migrations.Migration):
    dependencies = [("metering", "0024_genai_service_tier")]

    operations = [
        migrations.RunSQL(TAKE_HOLDS, f"DROP FUNCTION take_holds({ARGUMENTS})"),
        migrations.RunSQL(f"DROP FUNCTION take_hold({one_by_one.ARGUMENTS})", one_by_one.TAKE_HOLD),
    ]
