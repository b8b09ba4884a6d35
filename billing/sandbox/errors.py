"""Error answers, in Stripe's form."""

from typing import Any


class StripeError(Exception):
    """A refused request: the HTTP status and the body that Stripe would answer with."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        *,
        type: str = "invalid_request_error",
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        details = {"type": type, "message": message, "code": code, "param": param, **more}
        self.body: dict[str, Any] = {"error": {name: value for name, value in details.items() if value}}
