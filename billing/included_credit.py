"""What credit a plan may say that it brings. Granting it is `plan_credits`' business."""

from decimal import Decimal

from accounts.errors import DomainError

# As the columns of a grant hold them.
LAST_PRIORITY = 32_767
LONGEST_ROLL = 120


class PlanCreditInvalid(DomainError):
    code = "plan_credit_invalid"
    sentence = "The credit of a plan is an amount above zero."
    status = 422


def require_sound_credit(amount: Decimal | None, priority: int, rolls_for: int, most_rolled: Decimal | None) -> None:
    """Raises PlanCreditInvalid."""
    if amount is None:
        if rolls_for or most_rolled is not None:
            raise PlanCreditInvalid("Without credit there is nothing to stay for other periods.")
        return
    if not amount.is_finite() or amount <= 0:
        raise PlanCreditInvalid
    if priority > LAST_PRIORITY or rolls_for > LONGEST_ROLL:
        raise PlanCreditInvalid(f"A priority is at most {LAST_PRIORITY}; credit stays {LONGEST_ROLL} periods at most.")
    if most_rolled is not None and (not rolls_for or not most_rolled.is_finite() or most_rolled < 0):
        raise PlanCreditInvalid("Only credit that stays for other periods has a maximum, from zero up.")
