"""What OpenMeter's clients and LiteLLM's `openmeter` callback send: CloudEvents, some in words of their own.

LiteLLM's `litellm_tokens` become `ai.usage`. They say nothing about caching, so all of the prompt counts as uncached
and is flagged; `metering.formats.litellm` knows more. Events of any other type are taken as they are.
"""

from collections.abc import Iterable, Iterator

import msgspec

from metering.drafts import Draft, Refusal, body_of
from metering.formats import ai_calls
from metering.formats.ai_calls import Call
from metering.formats.token_pools import NotACount, Reported, reported
from metering.models.events import RejectionReason

LITELLM_TOKENS = "litellm_tokens"
CACHE_UNKNOWN = "cache_unknown"


def in_our_words(drafts: Iterable[Draft | Refusal]) -> Iterator[Draft | Refusal]:
    for draft in drafts:
        if isinstance(draft, Refusal):
            yield draft
        elif draft.type == LITELLM_TOKENS:
            yield _from_litellm(draft)
        else:
            yield _without_secret(draft)


def _from_litellm(draft: Draft) -> Draft | Refusal:
    data = draft.data
    try:
        counts = reported(input=data.get("prompt_tokens"), output=data.get("completion_tokens"))
    except NotACount as error:
        return Refusal(RejectionReason.INVALID_VALUE, str(error), body_of(draft), draft.source, draft.event_id)
    return ai_calls.draft_of(
        Call(
            source=draft.source,
            event_id=draft.event_id,
            subject=ai_calls.subject(draft.subject),
            time=draft.time,
            counts=counts if counts.has_usage else Reported(),
            facts={"model": ai_calls.text(data.get("model")), "reported_cost": ai_calls.cost(data.get("cost"))},
            flags=(CACHE_UNKNOWN,),
        )
    )


def _without_secret(draft: Draft) -> Draft:
    """Some name the key itself as the subject: it is hashed before anything is kept."""
    subject = ai_calls.subject(draft.subject)
    return draft if subject == draft.subject else msgspec.structs.replace(draft, subject=subject, body=b"")
