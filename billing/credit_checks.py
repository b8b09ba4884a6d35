"""Does the ledger of credit add up? Every night, over all of it, and whenever somebody asks. Changes nothing.

Each movement sums to zero; each grant's amount is what was used, is left, has expired and was reversed; what was used
is what the credit lines of invoices say, and nothing where they are void; nothing crosses organisations or currencies.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from django.db import connection

from accounts.models import Organisation


class Rule(StrEnum):
    MOVEMENT = "movement"
    GRANT = "grant"
    OVERDRAWN = "overdrawn"
    INVOICE = "invoice"
    OWNER = "owner"


WORDS = {
    Rule.MOVEMENT: "The entries of a movement do not sum to zero.",
    Rule.GRANT: "What became of a grant is not its amount.",
    Rule.OVERDRAWN: "More was taken from a grant than there was.",
    Rule.INVOICE: "What an invoice used is not what its credit lines say.",
    Rule.OWNER: "A movement belongs to another organisation or currency than its grant or its invoice.",
}

# Each answers: organisation, grant, invoice (or number of the movement), what it should be, what it is.
MOVEMENTS = """
SELECT o.slug, g.public_id, t.id::text, 0::numeric, sum(e.amount)
FROM billing_ledgerentry e
JOIN billing_ledgertransaction t ON t.id = e.transaction_id
JOIN billing_creditgrant g ON g.id = e.grant_id
JOIN accounts_organisation o ON o.id = g.organisation_id
WHERE %(organisation)s::bigint IS NULL OR e.organisation_id = %(organisation)s
GROUP BY o.slug, g.public_id, t.id HAVING sum(e.amount) <> 0"""
GRANTS = """
SELECT o.slug, g.public_id, '', g.amount, coalesce(found.amount, 0)
FROM billing_creditgrant g
JOIN accounts_organisation o ON o.id = g.organisation_id
LEFT JOIN LATERAL (
    SELECT sum(e.amount) FILTER (WHERE e.account <> 'granted') AS amount,
           -sum(e.amount) FILTER (WHERE e.account = 'granted') AS granted
    FROM billing_ledgerentry e WHERE e.grant_id = g.id) AS found ON true
WHERE (%(organisation)s::bigint IS NULL OR g.organisation_id = %(organisation)s)
  AND (found.amount IS DISTINCT FROM g.amount OR found.granted IS DISTINCT FROM g.amount)"""
OVERDRAWN = """
SELECT o.slug, g.public_id, '', 0::numeric, sum(e.amount)
FROM billing_ledgerentry e
JOIN billing_creditgrant g ON g.id = e.grant_id
JOIN accounts_organisation o ON o.id = g.organisation_id
WHERE e.account <> 'granted' AND (%(organisation)s::bigint IS NULL OR e.organisation_id = %(organisation)s)
GROUP BY o.slug, g.public_id, e.account HAVING sum(e.amount) < 0"""
INVOICES = """
WITH used AS (
    SELECT t.invoice_id, 'credit:' || g.public_id AS key, sum(e.amount) AS amount
    FROM billing_ledgerentry e
    JOIN billing_ledgertransaction t ON t.id = e.transaction_id
    JOIN billing_creditgrant g ON g.id = e.grant_id
    WHERE e.account = 'used' AND (%(organisation)s::bigint IS NULL OR e.organisation_id = %(organisation)s)
    GROUP BY t.invoice_id, g.public_id
), said AS (
    SELECT l.invoice_id, l.key, CASE i.state WHEN 'void' THEN 0 ELSE -l.amount_exact END AS amount
    FROM billing_invoiceline l JOIN billing_invoice i ON i.id = l.invoice_id
    WHERE l.kind = 'credit' AND (%(organisation)s::bigint IS NULL OR i.organisation_id = %(organisation)s)
)
SELECT o.slug, substr(key, 8), i.number, coalesce(said.amount, 0), coalesce(used.amount, 0)
FROM used FULL JOIN said USING (invoice_id, key)
JOIN billing_invoice i ON i.id = invoice_id
JOIN accounts_organisation o ON o.id = i.organisation_id
WHERE coalesce(used.amount, 0) <> coalesce(said.amount, 0)"""
OWNERS = """
SELECT o.slug, g.public_id, coalesce(i.number, t.id::text), g.amount, e.amount
FROM billing_ledgerentry e
JOIN billing_ledgertransaction t ON t.id = e.transaction_id
JOIN billing_creditgrant g ON g.id = e.grant_id
JOIN accounts_organisation o ON o.id = g.organisation_id
LEFT JOIN billing_invoice i ON i.id = t.invoice_id
WHERE (%(organisation)s::bigint IS NULL OR g.organisation_id = %(organisation)s)
  AND (e.organisation_id <> g.organisation_id OR t.organisation_id <> g.organisation_id
       OR i.organisation_id <> g.organisation_id OR i.currency <> g.currency)"""
STATEMENTS = {
    Rule.MOVEMENT: MOVEMENTS,
    Rule.GRANT: GRANTS,
    Rule.OVERDRAWN: OVERDRAWN,
    Rule.INVOICE: INVOICES,
    Rule.OWNER: OWNERS,
}


@dataclass(frozen=True, slots=True)
class CreditFinding:
    """Something that does not add up."""

    organisation: str
    rule: Rule
    sentence: str
    grant: str
    # Number of the invoice, or of the movement where it paid none; empty where it is about a whole grant.
    place: str
    expected: Decimal
    found: Decimal


def check_credits(organisation: Organisation | None = None) -> list[CreditFinding]:
    """Every finding, of one organisation or of all; empty is good. One statement per rule, whatever there is."""
    findings = []
    with connection.cursor() as cursor:
        for rule, statement in STATEMENTS.items():
            cursor.execute(statement, {"organisation": organisation.pk if organisation else None})
            for slug, grant, place, expected, found in cursor.fetchall():
                findings.append(CreditFinding(slug, rule, WORDS[rule], grant, place, expected, found))
    return findings
