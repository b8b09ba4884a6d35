"""Posted rows never change: prices, published plan versions, invoices and their lines. The database refuses."""

from django.db import migrations

FREEZE = """
CREATE TRIGGER price_append_only BEFORE UPDATE OR DELETE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER invoice_line_append_only BEFORE UPDATE OR DELETE ON billing_invoiceline
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER invoice_never_deleted BEFORE DELETE ON billing_invoice
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Only what follows payment may change.
CREATE TRIGGER invoice_frozen BEFORE UPDATE ON billing_invoice FOR EACH ROW
    WHEN (to_jsonb(OLD) - '{state,amount_paid_minor,paid_at}'::text[]
          IS DISTINCT FROM to_jsonb(NEW) - '{state,amount_paid_minor,paid_at}'::text[])
    EXECUTE FUNCTION refuse_change();

CREATE TRIGGER plan_version_frozen BEFORE UPDATE OR DELETE ON billing_planversion FOR EACH ROW
    WHEN (OLD.published_at IS NOT NULL)
    EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_published_component() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    version bigint;
BEGIN
    version := CASE WHEN TG_OP = 'DELETE' THEN OLD.plan_version_id ELSE NEW.plan_version_id END;
    IF EXISTS (
        SELECT FROM billing_planversion
        WHERE published_at IS NOT NULL
          AND id IN (version, CASE WHEN TG_OP = 'UPDATE' THEN OLD.plan_version_id END)
    ) THEN
        RAISE EXCEPTION 'A published plan version never changes: make a new version.'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER price_component_frozen BEFORE INSERT OR UPDATE OR DELETE ON billing_pricecomponent
    FOR EACH ROW EXECUTE FUNCTION refuse_published_component();
"""
REVERSE = """
DROP TRIGGER price_component_frozen ON billing_pricecomponent;
DROP FUNCTION refuse_published_component();
DROP TRIGGER plan_version_frozen ON billing_planversion;
DROP TRIGGER invoice_frozen ON billing_invoice;
DROP TRIGGER invoice_never_deleted ON billing_invoice;
DROP TRIGGER invoice_line_append_only ON billing_invoiceline;
DROP TRIGGER price_append_only ON billing_price;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("accounts", "0002_append_only"), ("metering", "0002_genai_meters")]

    operations = [migrations.RunSQL(FREEZE, REVERSE)]
