"""The client for asyncio."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import tenacity

from visionyard.client.answers import ClassifiedRow, ImageResult, to_result
from visionyard.client.calls import Call, Options, ServerAddress, to_calls
from visionyard.client.faults import Deadline, Patience
from visionyard.client.images import ImageLike
from visionyard.client.rest_calls import AsyncRestTransport
from visionyard.client.rows import RowCall, to_row_calls, to_row_result
from visionyard.errors import ConfigError, RequestError

_Result = TypeVar("_Result")


class AsyncClient:
    """As `Client`, for asyncio: several requests are in flight at the same time.

    ```python
    async with AsyncClient("http://localhost:8080") as client:
        results = await client.predict_many(paths)
    ```
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        api_key: str = "",
        timeout_s: float = 60.0,
        try_count: int = 4,
        ca_file: str = "",
        concurrency: int = 4,
    ) -> None:
        """Prepare; the first call connects.

        Args:
            url: As in `Client`, and the following too.
            model: Its name on the server.
            api_key: Sent as bearer token.
            timeout_s: For each call with all its tries.
            try_count: Most tries of a request.
            ca_file: PEM file of the certificate authority.
            concurrency: Most requests of this client in flight, at least 1.

        Raises:
            ConfigError: A value is not usable.
        """
        if concurrency < 1:
            raise ConfigError(f"concurrency = {concurrency}: expected at least 1")
        address = ServerAddress.parse(url)
        self._model = model
        self._patience = Patience(timeout_s, try_count)
        self._slots = asyncio.Semaphore(concurrency)
        self._transport: Any
        if address.is_grpc:
            from visionyard.client.grpc_calls import AsyncGrpcTransport

            self._transport = AsyncGrpcTransport(address, api_key, ca_file)
        else:
            self._transport = AsyncRestTransport(address, api_key, ca_file)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def predict(self, image: ImageLike, **options: Unpack[Options]) -> ImageResult:
        """Ask what is in an image; arguments and errors as in `Client.predict`."""
        return (await self.predict_many([image], **options))[0]

    async def predict_many(self, images: Iterable[ImageLike], **options: Unpack[Options]) -> list[ImageResult]:
        """Ask what is in several images, in requests beside each other; as `Client.predict_many`."""
        deadline = self._patience.start()
        calls = await asyncio.to_thread(to_calls, images, options, model=self._model)
        return await self._beside_each_other([self._ask(call, deadline) for call in calls])

    async def predict_rows(
        self, rows: Iterable[Mapping[str, Any]], *, model: str = "", top_k: int | None = None
    ) -> list[ClassifiedRow]:
        """Ask for the classes of rows of a table, in requests beside each other; as `Client.predict_rows`."""
        deadline = self._patience.start()
        calls = await asyncio.to_thread(to_row_calls, rows, model=model or self._model, top_k=top_k)
        return await self._beside_each_other([self._ask_rows(call, deadline) for call in calls])

    async def _beside_each_other(self, asking: Sequence[Coroutine[Any, Any, list[_Result]]]) -> list[_Result]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in asking]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others were cancelled, or failed at the same moment
        return [result for task in tasks for result in task.result()]

    async def _ask(self, call: Call, deadline: Deadline) -> list[ImageResult]:
        async with self._slots:
            retrying = tenacity.AsyncRetrying(**self._patience.retrying(deadline))
            answers: list[dict[str, Any]] = await retrying(self._transport.predict, call, deadline)
        return [to_result(values, image.source_wh) for values, image in zip(answers, call.images, strict=True)]

    async def _ask_rows(self, call: RowCall, deadline: Deadline) -> list[ClassifiedRow]:
        async with self._slots:
            retrying = tenacity.AsyncRetrying(**self._patience.retrying(deadline))
            try:
                answers: list[dict[str, Any]] = await retrying(self._transport.predict_rows, call, deadline)
            except RequestError as error:
                raise call.place(error) from None
        return [to_row_result(values) for values in answers]

    async def model_info(self, model: str = "") -> dict[str, Any]:
        """Return what the server tells of a model, as `Client.model_info`."""
        deadline = self._patience.start()
        retrying = tenacity.AsyncRetrying(**self._patience.retrying(deadline))
        return dict(await retrying(self._transport.model_info, model or self._model, deadline))

    async def is_ready(self) -> bool:
        """Return whether the server answers and its models are loaded; asks once."""
        return bool(await self._transport.is_ready(self._patience.start()))
