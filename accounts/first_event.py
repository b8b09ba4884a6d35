"""The command that reports a first call by hand, ready to paste."""

import json

from django.conf import settings

# Nobody's real model or figures: small, and easy to find again on the usage page.
SAMPLE = {"model": "gpt-oss-120b", "input_tokens": 1200, "output_tokens": 350}
NEW_TOKEN = "$(./kilotoken manage create_service_token --name 'First steps' --scope events:write --only-secret)"  # noqa: S105


def curl_line(subject: str, event_id: str = "") -> str:
    """A curl command that reports one call by `subject`, the public id of a key or an organisation.

    Pasted twice it counts once: the id stays the same unless `event_id` says otherwise. Where the
    product runs from its own folder, the line makes its own service token; elsewhere the operator has one.
    """
    token = NEW_TOKEN if settings.DEVELOPMENT_MAILBOX else "$KILOTOKEN_SERVICE_TOKEN"
    event = {
        "specversion": "1.0",
        "source": "curl",
        "id": event_id or f"first-call-of-{subject}",
        "type": "ai.usage",
        "subject": subject,
        "data": SAMPLE,
    }
    return (
        f"curl {settings.SITE_URL}/v1/events \\\n"
        f'  -H "Authorization: Bearer {token}" \\\n'
        f'  -H "Content-Type: application/cloudevents+json" \\\n'
        f"  -d '{json.dumps(event, indent=2)}'"
    )
