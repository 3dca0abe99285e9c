"""The one call of AWS Secrets Manager that we make, over aiobotocore. Imported in a thread, when it is first needed.

botocore's own debug log holds answers, secrets included: ours lets nothing of libraries below INFO through.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import botocore.exceptions as wrong
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.parsers import ResponseParserError
from multidict import CIMultiDict
from yarl import URL

from aisix_common.resources.secret_providers import Aws

from .aws import WHO, refusal
from .base import Away, Context, NoSuchSecret, Refused, Unresolved, Unusable
from .keyed import decoded
from .unreached import unreached

_SERVICE: Final = "secretsmanager"
_FAILURES: Final = (wrong.ClientError, wrong.BotoCoreError, ResponseParserError, ValueError)
_NOT_AWS: Final = f"what answers is not the API of {WHO}: check endpoint_url, and what stands before it"


class Calls:
    """Calls of one provider."""

    def __init__(self, client: Any, exits: AsyncExitStack) -> None:
        self._client = client
        self._exits = exits

    async def text(self, name: str) -> str | None:
        """The current value (AWSCURRENT) of a secret; None where there is none of that name. Raises Unresolved."""
        try:
            answer = await self._client.get_secret_value(SecretId=name)
        except _FAILURES as error:
            if isinstance(error, wrong.ClientError) and _code(error) == "ResourceNotFoundException":
                return None
            raise _failure(error) from None
        if not isinstance(answer.get("ARN"), str):
            raise Away(_NOT_AWS)
        if isinstance(text := answer.get("SecretString"), str):
            return text
        if isinstance(data := answer.get("SecretBinary"), bytes):
            return decoded(data)
        raise NoSuchSecret("the secret has no value")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exits.aclose()


def prepare(provider: Aws) -> Callable[[Context], Awaitable[Calls]]:
    """What opens the calls of a provider on the event loop. Itself it belongs into a thread: it makes botocore read the
    models of the services, which it keeps, so that opening takes milliseconds."""
    session = AioSession()
    ambient = provider.access_key_id is None
    # AWS is asked for a token with a web identity at STS.
    try:
        asyncio.run(_warm(session, provider.region, (_SERVICE, "sts") if ambient else (_SERVICE,)))
    except _FAILURES as error:
        raise _failure(error) from None

    async def opened(context: Context) -> Calls:
        return await _open(session, provider, context)

    return opened


async def _warm(session: AioSession, region: str, services: tuple[str, ...]) -> None:
    for service in services:
        unused = session.create_client(service, region, aws_access_key_id="none", aws_secret_access_key="none")  # noqa: S106 - sent nowhere: the client is made and thrown away
        async with unused:
            pass


async def _open(session: AioSession, provider: Aws, context: Context) -> Calls:
    """Connects to nothing, but for the default chain, where a provider has no keys. Raises Unresolved."""
    keys = (provider.access_key_id, provider.secret_access_key, provider.session_token)
    key, secret, token = (each.reveal() if each is not None else None for each in keys)
    config = AioConfig(
        connect_timeout=context.timeout,
        read_timeout=context.timeout,
        retries={"total_max_attempts": 1, "mode": "standard"},  # when to ask again is the cache's to say
        http_session_cls=_guarded(context),
    )
    async with AsyncExitStack() as exits:
        try:
            client = await exits.enter_async_context(
                session.create_client(
                    _SERVICE,
                    region_name=provider.region,
                    endpoint_url=provider.endpoint_url,
                    aws_access_key_id=key,
                    aws_secret_access_key=secret,
                    aws_session_token=token,
                    config=config,
                )
            )
        except _FAILURES as error:
            raise _failure(error) from None
        return Calls(client, exits.pop_all())
    raise AssertionError("an exit stack swallows nothing")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _failure(error: Exception) -> Unresolved:
    """What an error of botocore means."""
    if isinstance(error, wrong.ClientError):  # an answer of AWS: also of STS, for an identity
        return refusal(_code(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)))
    if isinstance(error, wrong.HTTPClientError | wrong.ConnectionError):  # the second is of STS and its like alone
        return unreached(WHO if isinstance(error, wrong.HTTPClientError) else f"{WHO}, or STS", error)
    if isinstance(
        error,
        wrong.NoCredentialsError
        | wrong.PartialCredentialsError
        | wrong.CredentialRetrievalError
        | wrong.MetadataRetrievalError
        | wrong.TokenRetrievalError,
    ):
        return Refused(
            f"{WHO}: no credentials in the default chain (environment, web identity, container, instance): "
            "give the pod's service account a role, or the provider an access key"
        )
    if isinstance(error, ResponseParserError):
        return Away(_NOT_AWS)
    return Unusable(f"{WHO}: region, endpoint_url or the AWS settings of the environment are wrong")


def _guarded(context: Context) -> type:
    """The HTTP session class that botocore sends with (`http_session_cls`): ours, whose addresses are checked.

    Only for Secrets Manager itself: where the default chain gets its credentials from - metadata services above all -
    says the deployment and no row, and botocore has connections of its own for that.
    """

    class GuardedSession:
        def __init__(self, **options: Any) -> None:
            self._session: aiohttp.ClientSession | None = None

        async def __aenter__(self) -> "GuardedSession":
            self._session = context.open_session(None)
            return self

        async def __aexit__(self, *error: object) -> None:
            await self.close()

        async def close(self) -> None:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

        async def send(self, request: Any) -> Any:
            assert self._session is not None
            headers = CIMultiDict(
                (name, value.decode() if isinstance(value, bytes) else str(value))
                for name, value in request.headers.items()
            )
            headers["Accept-Encoding"] = "identity"
            try:
                response = await self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=headers,
                    data=request.body,
                    skip_auto_headers=("Content-Type",),
                    allow_redirects=False,
                )
                answer = AioAWSResponse(
                    request.url,
                    response.status,
                    {name.decode().lower(): value.decode("latin-1") for name, value in response.raw_headers},
                    response,
                )
                await answer.content  # read, so that what goes wrong there is told here
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
                raise wrong.HTTPClientError(error=error) from error
            return answer

    return GuardedSession
