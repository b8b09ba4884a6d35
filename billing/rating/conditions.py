"""What a price holds for besides its meter and model: a service tier, a length of context, a cache lifetime, a region.

A condition that is not set holds for everything. Usage whose label is unknown meets no condition on that label, but for
the service tier, which is the standard one unless said otherwise. The length of the context is that of the whole
request, which is priced entirely at the tier it reaches.
"""

from dataclasses import dataclass

from billing.rating.labels import CACHE_TTL, CONTEXT_TIER, REGION, SERVICE_TIER, Labels

STANDARD = "standard"
# What providers call the tier that is neither batch nor priority.
_STANDARD_NAMES = frozenset({"", "default", STANDARD})
ENDLESS = 10**18


class InvalidContext(ValueError):
    code = "invalid_context"

    def __init__(self) -> None:
        super().__init__("A context length is a whole number of tokens, and its upper end must lie above its lower.")


@dataclass(frozen=True, slots=True)
class Conditions:
    service_tier: str = ""
    context_above: int | None = None  # requests with more tokens in their prompt than this
    context_up_to: int | None = None  # and with at most this many
    cache_ttl: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        above, up_to = self.context_above, self.context_up_to
        if any(bound is not None and bound < 0 for bound in (above, up_to)):
            raise InvalidContext
        if up_to is not None and up_to <= (above or 0):
            raise InvalidContext

    def __bool__(self) -> bool:
        return self != ANYTHING

    def __str__(self) -> str:
        """ "batch, context above 200,000 tokens, 1h cache, eu"."""
        cache = f"{self.cache_ttl} cache" if self.cache_ttl else ""
        return ", ".join(part for part in (self.service_tier, self._context(), cache, self.region) if part)

    @property
    def rank(self) -> tuple[int, ...]:
        """The more specific, the higher: first by how many conditions are set; where as many are, a service tier beats
        a context length, which beats a cache lifetime, which beats a region. Of context lengths the one that begins
        higher wins, then the one that ends lower."""
        above = -1 if self.context_above is None else self.context_above
        up_to = ENDLESS if self.context_up_to is None else self.context_up_to
        has_context = above >= 0 or up_to < ENDLESS
        count = bool(self.service_tier) + has_context + bool(self.cache_ttl) + bool(self.region)
        return count, bool(self.service_tier), has_context, above, -up_to, bool(self.cache_ttl), bool(self.region)

    def hold_for(self, labels: Labels) -> bool:
        if self.service_tier and tier_of(labels) != _standard_name(self.service_tier):
            return False
        if self.cache_ttl and labels.get(CACHE_TTL) != self.cache_ttl:
            return False
        if self.region and labels.get(REGION) != self.region:
            return False
        return self._holds_for_context(labels)

    def _holds_for_context(self, labels: Labels) -> bool:
        if self.context_above is None and self.context_up_to is None:
            return True
        above = context_above(labels)
        if above is None:
            return False
        return above >= (self.context_above or 0) and (self.context_up_to is None or above < self.context_up_to)

    def _context(self) -> str:
        above, up_to = self.context_above, self.context_up_to
        parts = [f"above {above:,}"] if above else []
        parts += [f"up to {up_to:,}"] if up_to is not None else []
        return f"context {' and '.join(parts)} tokens" if parts else ""


ANYTHING = Conditions()


def labels_of_conditions(conditions: Conditions) -> frozenset[str]:
    """The names of the labels that the conditions look at."""
    has_context = conditions.context_above is not None or conditions.context_up_to is not None
    asked = {
        SERVICE_TIER: conditions.service_tier,
        CONTEXT_TIER: has_context,
        CACHE_TTL: conditions.cache_ttl,
        REGION: conditions.region,
    }
    return frozenset(name for name, value in asked.items() if value)


def tier_of(labels: Labels) -> str:
    """The service tier; what is not said, and what providers call default, is the standard one."""
    return _standard_name(labels.get(SERVICE_TIER, ""))


def context_above(labels: Labels) -> int | None:
    """The lower end of the context tier: every request of the usage has more tokens than this, and none reaches the
    next tier. None where it is not known."""
    label = labels.get(CONTEXT_TIER, "")
    return int(label) if label.isdecimal() else None


def _standard_name(tier: str) -> str:
    return STANDARD if tier in _STANDARD_NAMES else tier
