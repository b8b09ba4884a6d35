"""Kilotoken for LiteLLM's proxy: keys without a database, budgets before the call, usage that is not lost.

In the proxy's config.yaml:

    general_settings: {custom_auth: kilotoken_litellm.user_api_key_auth}
    litellm_settings: {callbacks: [kilotoken_litellm.kilotoken]}

Written against LiteLLM 1.106. A call gets an id of our own making: LiteLLM's can be chosen by the caller, who could
otherwise have two calls counted as one. Under that id the call is held before it runs, and reported after it.
"""

import asyncio
import atexit
import contextvars
import functools
import hmac
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import kilotoken_calls as calls
from fastapi import Request  # type: ignore[import-not-found]
from kilotoken_gateway import Admitted, Gateway, Refused, Settings, digest_of
from litellm.integrations.custom_logger import CustomLogger  # type: ignore[import-not-found]
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth  # type: ignore[import-not-found]

T = TypeVar("T")
log = logging.getLogger("kilotoken.litellm")

MARK = "kilotoken_call"
# These look something up or end it; no model runs.
NO_CALLS = ("aget_", "alist_", "adelete_", "acancel_", "aretrieve_", "afile_", "avector_store_file_list")
# After a stream broke off, LiteLLM reports what went by; if it has not by then, it will not.
GRACE_SECONDS = 5.0
# A call that nothing was heard of for so long is reported with what is known of it.
LONGEST_CALL_SECONDS = 6 * 3600.0
# How long it is remembered whose key it is. A revoked key makes no call from that moment on: every call asks anew.
IDENTITY_SECONDS = 30.0
THREADS = 64
# So that one that gets lost is made up for in time.
EXTENSIONS_PER_TTL = 3


class Call:
    """A call that was let through and has not been reported yet."""

    def __init__(self, admitted: Admitted, prompt_tokens: int) -> None:
        self.admitted, self.prompt_tokens = admitted, prompt_tokens
        self.began = time.monotonic()
        # Text that was streamed to the caller so far; None: no stream has begun.
        self.streamed_bytes: int | None = None
        self.held_output_tokens = int(admitted.estimate.get("output_tokens", 0))


class Plugin(CustomLogger):
    def __init__(self) -> None:
        super().__init__()
        # At once: a missing setting is said when the proxy starts, and what was left behind is sent then.
        self.gateway = Gateway(Settings.from_environment(source="litellm"))
        atexit.register(self.gateway.spool.drain, 5.0)
        self._open: dict[str, Call] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kilotoken")
        self._identities: dict[tuple[str, str | None], float] = {}

    # --- Who calls ----------------------------------------------------------------------------------------------------

    async def authenticate(self, request: Request, api_key: str) -> UserAPIKeyAuth:
        """LiteLLM's custom_auth. The proxy's master key may administer the proxy and call no model."""
        if _is_master_key(api_key):
            return UserAPIKeyAuth(api_key=api_key, user_role=LitellmUserRoles.PROXY_ADMIN)
        if not api_key:
            raise _proxy_error(Refused({"code": "key_missing", "status": 401, "message": "No API key was sent."}))
        digest, address = digest_of(api_key), _address_of(request)
        known_until = self._identities.get((digest, address), 0.0)
        if known_until < time.monotonic():
            await self._identify(digest, address)
        return UserAPIKeyAuth(
            api_key=digest,
            user_role=LitellmUserRoles.INTERNAL_USER,
            metadata={"kilotoken_address": address} if address else {},
        )

    async def _identify(self, digest: str, address: str | None) -> None:
        try:
            await self._in_thread(self.gateway.identify, digest, client_ip=address)
        except Refused as refused:
            self._identities.pop((digest, address), None)
            raise _proxy_error(refused) from None
        if len(self._identities) > 50_000:
            self._identities.clear()
        self._identities[digest, address] = time.monotonic() + IDENTITY_SECONDS

    # --- Before the call ----------------------------------------------------------------------------------------------

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        if call_type.startswith(NO_CALLS):
            return data
        call_id = str(uuid.uuid4())
        prompt_tokens = calls.prompt_tokens_of(data)
        digest = user_api_key_dict.api_key or ""
        address = (user_api_key_dict.metadata or {}).get("kilotoken_address")
        try:
            admitted = await self._in_thread(
                self.gateway.admit,
                digest,
                call_id=call_id,
                model=str(data.get("model") or ""),
                prompt_tokens=prompt_tokens,
                max_tokens=calls.max_tokens_of(data),
                end_user=data["user"][:200] if isinstance(data.get("user"), str) else None,
                client_ip=address,
            )
        except Refused as refused:
            raise _proxy_error(refused) from None
        self._report_forgotten()
        self._open[call_id] = Call(admitted, prompt_tokens)
        _mark(data, call_id)
        return data

    async def async_post_call_response_headers_hook(
        self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: Any, **_: Any
    ) -> dict[str, str] | None:
        call = self._open.get(_mark_of(data) or "")
        return dict(call.admitted.headers) if call else None

    # --- While it streams ---------------------------------------------------------------------------------------------

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        call_id = _mark_of(request_data) or ""
        call = self._open.get(call_id)
        keeping = None
        if call is not None:
            call.streamed_bytes = 0
            keeping = asyncio.create_task(self._keep_held(call))
        try:
            async for chunk in response:
                if call is not None and call.streamed_bytes is not None:
                    call.streamed_bytes += calls.text_bytes_of_chunk(chunk)
                yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            if call is not None:  # the caller has gone
                asyncio.get_running_loop().call_later(
                    GRACE_SECONDS, self._guess_later, call_id, context=contextvars.Context()
                )
            raise
        finally:
            if keeping is not None:
                keeping.cancel()

    async def _keep_held(self, call: Call) -> None:
        """Beside a stream, never in its way: what it holds lasts as long as it does, and grows with what went by.

        A stream that has outgrown its limit is not cut off; it is counted whole, and shows as overdraft.
        """
        while True:
            await asyncio.sleep(self.gateway.settings.ttl_seconds / EXTENSIONS_PER_TTL)
            await self._in_thread(self._extend, call)

    def _extend(self, call: Call) -> None:
        streamed = calls.tokens_of_text(call.streamed_bytes or 0)
        more = max(0, streamed - call.held_output_tokens)
        if more and self.gateway.extend(call.admitted, {"output_tokens": more}):
            call.held_output_tokens += more
        else:
            self.gateway.extend(call.admitted, {})

    def _guess_later(self, call_id: str) -> None:
        if call := self._open.pop(call_id, None):
            self._threads.submit(self._report_guess, call)

    # --- After it -----------------------------------------------------------------------------------------------------

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        call = self._open.pop(_mark_of(kwargs) or "", None)
        record = kwargs.get("standard_logging_object")
        if call is None:
            return
        if not isinstance(record, Mapping):
            await self._in_thread(self._report_guess, call)
            return
        has_broken_off = _has_caller_gone(kwargs, record)
        if has_broken_off and not calls.has_usage(record):
            await self._in_thread(self._report_guess, call)
            return
        usage = calls.estimated_usage(record) if has_broken_off else calls.usage_of(record)
        await self._in_thread(self._report, call, calls.facts_of(record, call.admitted) | usage)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """The call failed, all retries and fallbacks included. What was streamed before that is reported."""
        call_id = _mark_of(request_data) or ""
        call = self._open.get(call_id)
        if call is None or call.admitted.digest != user_api_key_dict.api_key:
            return
        del self._open[call_id]
        if call.streamed_bytes or _may_have_run(original_exception):
            await self._in_thread(self._report_guess, call)
        else:
            await self._in_thread(self.gateway.release, call.admitted)

    def _report(self, call: Call, data: Mapping[str, Any]) -> None:
        self.gateway.report(self.gateway.event(call.admitted, data, ended_at=time.time()))

    def _report_guess(self, call: Call) -> None:
        output = calls.tokens_of_text(call.streamed_bytes or 0)
        self._report(call, {"model": call.admitted.model} | calls.guessed_usage(call.prompt_tokens, output))

    def _report_forgotten(self) -> None:
        """Calls stand in the order in which they began: look at the oldest."""
        oldest = next(iter(self._open), None)
        if oldest is not None and self._open[oldest].began < time.monotonic() - LONGEST_CALL_SECONDS:
            self._guess_later(oldest)

    async def _in_thread(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Nothing here may hold up the proxy's other calls: not the network, not the disk."""
        bound = functools.partial(work, *args, **kwargs)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, bound)
        except RuntimeError:  # the proxy is stopping and starts no more threads
            return bound()
        # Begun is done: a caller who goes meanwhile takes nothing back.
        return await asyncio.shield(future)


def _mark(data: dict[str, Any], call_id: str) -> None:
    """Leave our id where LiteLLM carries it to its reports. What the caller wrote there themselves is overwritten."""
    for name in ("metadata", "litellm_metadata"):
        if isinstance(data.get(name), dict):
            data[name][MARK] = call_id
    logging_object = data.get("litellm_logging_obj")
    if logging_object is not None:
        logging_object.model_call_details[MARK] = call_id


def _mark_of(carrier: Mapping[str, Any]) -> str | None:
    """Our id, from a request or from a report."""
    logging_object = carrier.get("litellm_logging_obj")
    places = [
        getattr(logging_object, "model_call_details", None) or {},
        carrier.get("litellm_metadata"),
        carrier.get("metadata"),
        (carrier.get("litellm_params") or {}).get("litellm_metadata"),
        (carrier.get("litellm_params") or {}).get("metadata"),
    ]
    found = carrier.get(MARK)
    for place in places:
        if not isinstance(found, str) and isinstance(place, Mapping):
            found = place.get(MARK)
    return found if isinstance(found, str) else None


def _has_caller_gone(kwargs: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    metadata = (kwargs.get("litellm_params") or {}).get("metadata") or {}
    return bool(metadata.get("client_disconnected")) or record.get("status") == "failure"


def _may_have_run(error: Exception) -> bool:
    """The provider may have worked all the same, and charge for it: nobody waited for the answer."""
    return getattr(error, "status_code", None) in (408, 499, 504) or "timeout" in type(error).__name__.lower()


def _proxy_error(refused: Refused) -> ProxyException:
    return ProxyException(
        message=refused.message,
        type=refused.code,
        param=None,
        code=refused.status,
        headers=dict(refused.headers),
        provider_specific_fields={"kilotoken": refused.reason},
    )


def _is_master_key(api_key: str) -> bool:
    from litellm.proxy import proxy_server  # type: ignore[import-not-found]  # it imports this module

    master_key = proxy_server.master_key
    return bool(master_key) and hmac.compare_digest(api_key.encode(), str(master_key).encode())


def _address_of(request: Request) -> str | None:
    """Where the caller is; behind proxies, as many of them as KILOTOKEN_TRUSTED_PROXIES says are believed."""
    trusted = int(os.environ.get("KILOTOKEN_TRUSTED_PROXIES", "0"))
    forwarded = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",") if part.strip()]
    if trusted and len(forwarded) >= trusted:
        return str(forwarded[-trusted])
    return str(request.client.host) if request.client else None


kilotoken = Plugin()


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    return await kilotoken.authenticate(request, api_key)
