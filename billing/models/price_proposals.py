"""Proposals for the price book, from published prices or a file: rows to look at before they become prices."""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from accounts.public_ids import new_public_id
from billing.models.price_book import Price, PriceFields
from metering.models import Meter


def proposal_id() -> str:
    return new_public_id("pprop")


class ProposalState(models.TextChoices):
    OPEN = "open", "To decide"
    ACCEPTED = "accepted", "Accepted"
    DISCARDED = "discarded", "Discarded"


class PriceChange(models.TextChoices):
    NEW = "new", "New"
    CHANGED = "changed", "Changed"
    GONE = "gone", "Gone"


class PriceProposal(models.Model):
    public_id = models.CharField(max_length=32, unique=True, default=proposal_id, editable=False)
    # Where the figures come from: "genai-prices 0.2.3", "prices.csv".
    source = models.CharField(max_length=120)
    made_at = models.DateTimeField()
    made_by = models.CharField(max_length=254)
    # How many rows the source has that the price book has, too.
    unchanged_count = models.PositiveIntegerField(default=0)
    # What the source says and we have no meter or condition for, and models it does not know: [{"model", "detail"}].
    unmappable = models.JSONField(default=list, encoder=DjangoJSONEncoder)
    state = models.CharField(max_length=16, choices=ProposalState, default=ProposalState.OPEN)
    # Null while it is open.
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at"]

    def __str__(self) -> str:
        return f"{self.source}, {self.made_at:%Y-%m-%d %H:%M}"


class ProposedPrice(PriceFields):
    """A row that accepting the proposal would add. Where it is `gone`, the row it names ends at `valid_until`."""

    proposal = models.ForeignKey(PriceProposal, on_delete=models.CASCADE, related_name="rows")
    position = models.PositiveIntegerField()
    change = models.CharField(max_length=16, choices=PriceChange)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    # Whose price it is: "openai: gpt-4.1". Empty: a file's.
    origin = models.CharField(max_length=200, blank=True)
    # What is in force now for the same thing. Null: nothing.
    instead_of = models.ForeignKey(Price, null=True, on_delete=models.PROTECT, related_name="+")
    # What the proposal's reviewer has chosen; what is gone is not chosen unless somebody does.
    is_selected = models.BooleanField(default=True)
    # The price it became. Null: not accepted.
    price = models.OneToOneField(Price, null=True, on_delete=models.PROTECT, related_name="proposed_as")

    class Meta:
        ordering = ["proposal", "position"]
        constraints = [
            models.UniqueConstraint(fields=["proposal", "position"], name="proposed_price_position_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.change} {self.meter_id} {self.model}"
