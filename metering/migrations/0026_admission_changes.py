"""Note what admission hangs on when it changes, so that what was looked up for a call need not be for the next."""

from importlib import import_module

import django.db.models.functions.datetime
from django.db import migrations, models

# `argument` says whose change it is. A transaction notes an organisation once.
NOTE_CHANGE = """
CREATE FUNCTION note_admission_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record;
    organisation bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    IF TG_ARGV[0] = 'its owner' THEN
        organisation := changed.organisation_id;
    ELSIF TG_ARGV[0] = 'itself' THEN
        organisation := changed.id;
    ELSIF TG_ARGV[0] = 'owner of the key' THEN
        SELECT organisation_id INTO organisation FROM accounts_apikey WHERE id = changed.api_key_id;
    ELSIF TG_ARGV[0] = 'owner of the quota' THEN
        SELECT organisation_id INTO organisation FROM metering_quota WHERE id = changed.quota_id;
    ELSE
        organisation := 0;
    END IF;
    IF organisation IS NOT NULL THEN  -- or else it is deleted itself, which was noted
        INSERT INTO admission_change (organisation_id, changed_by)
        VALUES (organisation, pg_current_xact_id()::text::bigint) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$
"""
# Rows that are read whole. New ones matter.
WHOLE = {
    "metering_admissionsettings": "its owner",
    "metering_quota": "its owner",
    "metering_quotaincrease": "owner of the quota",
    "price_estimate": "its owner",
    "billing_window": "its owner",
}
# Rows of which some columns are read. Nothing that was looked up hangs on new ones.
COLUMNS = {
    "accounts_organisation": ("itself", "public_id, time_zone, suspended_at"),
    "accounts_project": ("its owner", "public_id, archived_at"),
    "accounts_apikey": ("its owner", "public_id, project_id, revoked_at, expires_at, allowed_models, allowed_networks"),
    "accounts_apikeysecret": ("owner of the key", "digest, expires_at"),
    "accounts_servicetoken": ("everybody", "revoked_at, expires_at"),
    "metering_meter": ("everybody", "key"),
}
CALL = "FOR EACH ROW {condition}EXECUTE FUNCTION note_admission_change('{argument}')"


def triggers() -> list[str]:
    made = []
    for table, argument in WHOLE.items():
        call = CALL.format(condition="", argument=argument)
        made.append(f"CREATE TRIGGER note_admission_change AFTER INSERT OR DELETE ON {table} {call}")
        call = CALL.format(condition="WHEN (OLD.* IS DISTINCT FROM NEW.*) ", argument=argument)
        made.append(f"CREATE TRIGGER note_admission_update AFTER UPDATE ON {table} {call}")
    for table, (argument, columns) in COLUMNS.items():
        call = CALL.format(condition="", argument=argument)
        made.append(f"CREATE TRIGGER note_admission_change AFTER UPDATE OF {columns} OR DELETE ON {table} {call}")
    return made


UNDO_TRIGGERS = [
    *(f"DROP TRIGGER note_admission_change ON {table}" for table in (*WHOLE, *COLUMNS)),
    *(f"DROP TRIGGER note_admission_update ON {table}" for table in WHOLE),
]

# As before, and nothing is done where what somebody watches was changed by a transaction that they may not have seen.
# Looked at with the counters locked, so that a change that was waited for is felt.
TAKE_HOLDS = """
CREATE FUNCTION take_holds(
    owners bigint[], quotas bigint[], subjects text[], starts timestamptz[], ends timestamptz[],
    counters int[], kinds text[], wanted numeric[], room numeric[],
    firsts int[], lasts int[], organisations bigint[], hold_ids text[], calls text[], key_ids bigint[],
    projects bigint[], models text[], end_users text[], estimates jsonb[], unit_prices jsonb[], currencies text[],
    untils timestamptz[], at timestamptz, look_first boolean, longest_wait text,
    watched bigint[], since bigint[],
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
    IF EXISTS (
        SELECT FROM unnest(watched, since) AS c (organisation, since)
        WHERE (SELECT a.organisation_id FROM admission_change a
               WHERE a.organisation_id = c.organisation AND a.changed_by >= c.since LIMIT 1) IS NOT NULL
    ) THEN
        outcomes := array_fill('outdated'::text, ARRAY[cardinality(calls)]);
        RETURN;
    END IF;
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
without_changes = import_module("metering.migrations.0025_take_holds")
ARGUMENTS = without_changes.ARGUMENTS + ", bigint[], bigint[]"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0014_billing_scope"), ("metering", "0025_take_holds")]

    operations = [
        migrations.CreateModel(
            name="AdmissionChange",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organisation_id", "changed_by", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("organisation_id", models.BigIntegerField()),
                ("changed_by", models.BigIntegerField()),
                (
                    "changed_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
            options={"db_table": "admission_change"},
        ),
        migrations.RunSQL(NOTE_CHANGE, "DROP FUNCTION note_admission_change()"),
        migrations.RunSQL(triggers(), UNDO_TRIGGERS),
        migrations.RunSQL(TAKE_HOLDS, f"DROP FUNCTION take_holds({ARGUMENTS})"),
        migrations.RunSQL(f"DROP FUNCTION take_holds({without_changes.ARGUMENTS})", without_changes.TAKE_HOLDS),
    ]
