"""The client for ordinary programs."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import tenacity

from visionyard.client.answers import ClassifiedRow, ImageResult, to_result
from visionyard.client.calls import Options, ServerAddress, to_calls
from visionyard.client.faults import Patience
from visionyard.client.images import ImageLike
from visionyard.client.rest_calls import RestTransport
from visionyard.client.rows import to_row_calls, to_row_result
from visionyard.errors import RequestError


class Client:
    """Asks a model server; also a context manager that closes its connections. Threads may share it.

    ```python
    with Client("http://localhost:8080") as client:
        for box in client.predict("street.jpg", confidence=0.4).boxes:
            print(box.class_name, box.confidence, box.xyxy)
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
    ) -> None:
        """Prepare; the first call connects.

        Args:
            url: `http://host:8080`, `https://host/prefix`, or `grpc://host:8081`, `grpcs://host:443`.
            model: Its name on the server; empty: the only one there is. gRPC needs the name.
            api_key: Sent as bearer token; empty: none.
            timeout_s: For each call with all its tries, above 0.
            try_count: Most tries of a request that meets an overloaded server or a lost connection; a server's
                Retry-After is kept to.
            ca_file: PEM file of the certificate authority; empty: those of the system.

        Raises:
            ConfigError: A value is not usable.
        """
        address = ServerAddress.parse(url)
        self._model = model
        self._patience = Patience(timeout_s, try_count)
        self._transport: Any
        if address.is_grpc:
            from visionyard.client.grpc_calls import GrpcTransport

            self._transport = GrpcTransport(address, api_key, ca_file)
        else:
            self._transport = RestTransport(address, api_key, ca_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def predict(self, image: ImageLike, **options: Unpack[Options]) -> ImageResult:
        """Ask what is in an image.

        Args:
            image: A path, the bytes of an encoded file (JPEG, PNG, WebP, BMP, TIFF, GIF), or (H, W, 3) uint8 RGB.
            options: As in `Options`: model, confidence, iou, max_detections, top_k, downsize_px.

        Raises:
            MediaError: The file cannot be read.
            RequestError: The server refuses the request (NotFoundError, TooLargeError and DeniedError among them).
            OverloadedError: The server was too busy at every try.
            DeadlineError: There was no answer in time.
            StorageError: The server cannot be reached.
            VisionyardError: The server failed.
        """
        return self.predict_many([image], **options)[0]

    def predict_many(self, images: Iterable[ImageLike], **options: Unpack[Options]) -> list[ImageResult]:
        """Ask what is in several images, in requests of at most 8 images or 16 MiB, one after another.

        Args:
            images: Each as in `predict`; all of them are read before the first is sent.
            options: As in `predict`.

        Returns:
            One result an image, in order.

        Raises:
            VisionyardError: As in `predict`; an error of one image is that of the call.
        """
        deadline = self._patience.start()
        results: list[ImageResult] = []
        for call in to_calls(images, options, model=self._model):
            answers = tenacity.Retrying(**self._patience.retrying(deadline))(self._transport.predict, call, deadline)
            results += [to_result(values, image.source_wh) for values, image in zip(answers, call.images, strict=True)]
        return results

    def predict_rows(
        self, rows: Iterable[Mapping[str, Any]], *, model: str = "", top_k: int | None = None
    ) -> list[ClassifiedRow]:
        """Ask for the classes of rows of a table, in requests of at most 1,000 rows, one after another.

        Args:
            rows: Each with a value for every column of the model: a text, a number, true or false, None where it is not
                known; NaN is as None.
            model: In place of the client's own.
            top_k: Most classes a row.

        Returns:
            One result a row, in order.

        Raises:
            ConfigError: A row is no mapping, or a value is of another kind.
            RequestError: The server refuses a row; it names row, column and value.
            VisionyardError: As in `predict`.
        """
        deadline = self._patience.start()
        results: list[ClassifiedRow] = []
        for call in to_row_calls(rows, model=model or self._model, top_k=top_k):
            retrying = tenacity.Retrying(**self._patience.retrying(deadline))
            try:
                results += map(to_row_result, retrying(self._transport.predict_rows, call, deadline))
            except RequestError as error:
                raise call.place(error) from None
        return results

    def model_info(self, model: str = "") -> dict[str, Any]:
        """Return what the server tells of a model: over REST the bundle's manifest, over gRPC its tensors.

        Raises:
            NotFoundError: There is no such model.
            VisionyardError: As in `predict`.
        """
        deadline = self._patience.start()
        retrying = tenacity.Retrying(**self._patience.retrying(deadline))
        return dict(retrying(self._transport.model_info, model or self._model, deadline))

    def is_ready(self) -> bool:
        """Return whether the server answers and its models are loaded; asks once."""
        return bool(self._transport.is_ready(self._patience.start()))
