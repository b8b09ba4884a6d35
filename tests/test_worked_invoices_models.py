"""More whole months told as stories: volume, packages. Worked out by hand, none by the code."""

from decimal import Decimal

from billing.rating import Package, Tier, Volume
from tests.invoice_stories import month_of, printed


def test_volume_discount_on_a_busy_month() -> None:
    """Calls cost 1 c up to 10,000 a month and 0.7 c for all of them beyond. 9,999 cost $99.99; 10,001 only $70.01."""
    november = month_of(2026, 11)
    tiers = (Tier(Decimal(10_000), Decimal("0.01")), Tier(None, Decimal("0.007")))
    plan = [Volume(id="requests", label="Requests", meter="requests", tiers=tiers)]
    quiet = november.bill(november.used({("", "requests"): 9_999}), plan)
    busy = november.bill(november.used({("", "requests"): 10_001}), plan)
    assert printed(quiet) == [("Requests", "$99.99"), ("Total", "$99.99")]
    assert busy.lines[0].explanation == ("10,001 requests: all 10,001 × $0.007 (the price for above 10,000) = $70.007")
    assert printed(busy) == [("Requests", "$70.01"), ("Total", "$70.01")]


def test_image_packs() -> None:
    """Images are sold by the started hundred at €3.90, the first 20 free. 1,021 images: 1,001 make eleven blocks."""
    november = month_of(2026, 11, currency="EUR")
    plan = [
        Package(
            id="images",
            label="Images",
            meter="images",
            unit_price=Decimal("3.90"),
            scale=Decimal(100),
            included=Decimal(20),
        )
    ]
    rating = november.bill(november.used({("", "images"): 1_021}), plan)
    assert rating.lines[0].explanation == (
        "1,021 images, of which 20 included: 1,001 make 11 started blocks of 100 × €3.90 = €42.90"
    )
    assert printed(rating) == [("Images", "€42.90"), ("Total", "€42.90")]
