"""The sentences on a bill that say how an amount came about. Words only: every figure is handed in."""

from decimal import Decimal

from billing.money import format_exact, format_quantity, format_unit_price


def meter_noun(meter: str) -> str:
    """ "input_tokens" as read: "input tokens"."""
    return meter.replace("_", " ")


def units_used(quantity: Decimal, meter: str) -> str:
    """ "12,345,678 input tokens", "1 request"."""
    noun = meter_noun(meter)
    return f"{format_quantity(quantity)} {noun.removesuffix('s') if quantity == 1 else noun}"


def usage_sentence(
    meter: str,
    *,
    quantity: Decimal,
    included: Decimal,
    billable: Decimal,
    unit_price: Decimal,
    scale: Decimal,
    amount: Decimal,
    currency: str,
) -> str:
    """ "12,345,678 input tokens × $0.15 per 1,000,000 = $1.8518517"."""
    units, result = units_used(quantity, meter), format_exact(amount, currency)
    if not billable:
        return f"{units}, all included = {result}"
    product = f"× {format_unit_price(unit_price, scale=scale, currency=currency)} = {result}"
    if included:
        return f"{units}, of which {format_quantity(included)} included: {format_quantity(billable)} {product}"
    return f"{units} {product}"
