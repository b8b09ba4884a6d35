"""Who lives in the demo world, what they use, and how far their bills have come."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from accounts.models import Role
from billing.demo.history import OFFICE_HOURS, ROUND_THE_CLOCK, History, ModelUse


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    email: str
    role: Role


@dataclass(frozen=True, slots=True)
class Credit:
    """A grant: how many days after the first period began (below zero: before the day of the demo), and how many days
    it lasts (0: without an end)."""

    kind: str
    amount: str
    reason: str
    after_days: int
    lasts_days: int = 0
    priority: int = 100
    meters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanChange:
    """To another plan at once: how many days and hours after the first period began."""

    plan: str
    after_days: int
    after_hours: float = 0


@dataclass(frozen=True, slots=True)
class Story:
    """One organisation: who is in it, what it uses, and how far its bills have come."""

    name: str
    legal_name: str
    address: str
    country: str
    zone: str
    plan: str
    curve: tuple[int, ...]
    people: tuple[Person, ...]
    # The project of each key, by the key's name.
    keys: dict[str, str]
    uses: tuple[ModelUse, ...]
    # How many days ago the running period began.
    period_age_days: int
    # What to do with the periods that have ended, oldest first: "paid", "open" or "ended" (left to the operator).
    endings: tuple[str, ...]
    # Names of keys that were revoked since.
    revoked: tuple[str, ...] = ()
    credits: tuple[Credit, ...] = ()
    # Pays before it uses; calls stop where credit ends.
    is_prepaid: bool = False
    trial_days: int = 0
    plan_changes: tuple[PlanChange, ...] = ()
    # Code of a coupon that is redeemed on the first day after the trial; empty: none.
    coupon: str = ""

    @property
    def slug(self) -> str:
        return self.name.split(" ")[0].lower()

    @property
    def history(self) -> History:
        return History(self.slug, ZoneInfo(self.zone), self.curve, self.uses)


STORIES = (
    Story(
        name="Northwind Robotics",
        legal_name="Northwind Robotics GmbH",
        address="Hafenstraße 12\n20457 Hamburg",
        country="DE",
        zone="Europe/Berlin",
        plan="scale",
        curve=ROUND_THE_CLOCK,
        people=(
            Person("Olivia Berg", "olivia@northwind.example", Role.OWNER),
            Person("Martin Falk", "martin@northwind.example", Role.DEVELOPER),
            Person("Vera Lang", "vera@northwind.example", Role.VIEWER),
            Person("Bruno Kern", "bruno@northwind.example", Role.BILLING),
        ),
        keys={"fleet-planner": "Fleet", "warehouse-vision": "Fleet", "support-bot": "Default"},
        uses=(
            ModelUse("fleet-planner", "claude-sonnet-4-5", 46, 5200, 900, cache_read=0.55, cache_write=0.08),
            ModelUse("fleet-planner", "gpt-4o", 28, 3100, 520, cache_read=0.3),
            ModelUse("warehouse-vision", "gemini-2.5-flash", 64, 1900, 240, reasoning=0.2),
            ModelUse("support-bot", "gpt-4o-mini", 38, 1400, 310, cache_read=0.2),
        ),
        period_age_days=12,
        endings=("paid", "open"),
        credits=(
            Credit("promotional", "40", "Welcome to Kilotoken", 0, lasts_days=365, priority=10),
            Credit(
                "promotional",
                "25",
                "Cached prompts, on us",
                0,
                lasts_days=365,
                priority=5,
                meters=("cache_read_tokens",),
            ),
            Credit("promotional", "10", "A month of images to try", 0, lasts_days=28, meters=("image_input_tokens",)),
            Credit("purchased", "300", "Bought by bank transfer", 66),
        ),
    ),
    Story(
        name="Lumen Legal",
        legal_name="Lumen Legal LLP",
        address="48 Court Street\nBrooklyn, NY 11201",
        country="US",
        zone="America/New_York",
        plan="pay-as-you-go",
        curve=OFFICE_HOURS,
        people=(
            Person("Gus Okafor", "gus@lumen.example", Role.OWNER),
            Person("Dana Reyes", "dana@lumen.example", Role.DEVELOPER),
        ),
        keys={"contract-review": "Default", "intake-old": "Default"},
        uses=(
            ModelUse("contract-review", "claude-sonnet-4-5", 24, 9800, 1400, cache_read=0.4, cache_write=0.12),
            ModelUse("contract-review", "claude-haiku-4-5", 40, 2600, 380, cache_read=0.25),
            ModelUse("intake-old", "llama-3.3-70b", 9, 1200, 260),
        ),
        period_age_days=1,
        endings=("paid", "ended"),
        revoked=("intake-old",),
        trial_days=10,
        plan_changes=(PlanChange("team", 17, after_hours=14.4),),
        coupon="LEGAL20",
    ),
    Story(
        name="Kite Studio",
        legal_name="Kite Studio K.K.",
        address="2-11-3 Meguro\nTokyo 153-0063",
        country="JP",
        zone="Asia/Tokyo",
        plan="pay-as-you-go",
        curve=OFFICE_HOURS,
        people=(Person("Kei Mori", "kei@kite.example", Role.OWNER),),
        keys={"storyboards": "Default"},
        uses=(
            ModelUse("storyboards", "gpt-4o-mini", 150, 2900, 1100),
            ModelUse("storyboards", "gpt-4o", 26, 3400, 1600, cache_read=0.3),
            ModelUse("storyboards", "deepseek-v3.2", 60, 6400, 2300, cache_read=0.35, reasoning=0.5),
        ),
        period_age_days=20,
        endings=("paid", "paid"),
        credits=(Credit("purchased", "23", "Bought by bank transfer", -18),),
        is_prepaid=True,
    ),
)
