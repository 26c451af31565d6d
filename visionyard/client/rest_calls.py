"""Calls over REST: `POST /predict`, `GET /model/info`, readiness."""

import json
import ssl
from typing import Any

import httpx

from visionyard.client.calls import Call, ServerAddress
from visionyard.client.faults import Deadline, error_of_status, unreachable
from visionyard.client.rows import RowCall
from visionyard.errors import ConfigError, VisionyardError

_USER_AGENT = "visionyard-client"
_BYTES = "application/octet-stream"


def client_settings(address: ServerAddress, api_key: str, ca_file: str) -> dict[str, Any]:
    """Return what an httpx client is made with.

    Raises:
        ConfigError: The certificate file cannot be used.
    """
    headers = {"user-agent": _USER_AGENT, "accept": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    verify: ssl.SSLContext | bool = True
    if ca_file:
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ca_file {ca_file}: {error}; expected a PEM file of certificates") from None
    # A redirect would take the key to another place.
    return {"base_url": f"{address.url}/", "headers": headers, "verify": verify, "follow_redirects": False}


def predict_request(call: Call) -> dict[str, Any]:
    """Return the arguments of httpx's `post` for a call: one image as it is, several as multipart."""
    parameters: dict[str, Any] = {**({"model": call.model} if call.model else {}), **call.parameters}
    if len(call.images) == 1:
        return {"params": parameters, "content": call.images[0].data, "headers": {"content-type": _BYTES}}
    files = [("image", (f"{number}", image.data, _BYTES)) for number, image in enumerate(call.images)]
    return {"params": parameters, "files": files}


def rows_request(call: RowCall) -> dict[str, Any]:
    """Return the arguments of httpx's `post` for a call of rows."""
    return {
        "params": {"model": call.model} if call.model else {},
        "json": {"rows": call.rows, "parameters": call.parameters},
    }


def read_answer(response: httpx.Response, url: str) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        VisionyardError: Of the class that fits the status, with the server's message; or the answer is no JSON object.
    """
    if response.is_success:
        try:
            values = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            values = None
        if isinstance(values, dict):
            return values
        raise VisionyardError(
            f"{url}: expected a JSON object, got {response.headers.get('content-type', 'no content type')}; is it a "
            "Visionyard server, and the path right?"
        )
    raise error_of_status(
        response.status_code, _message(response), url=url, retry_after=response.headers.get("retry-after", "")
    )


def _message(response: httpx.Response) -> str:
    try:
        values = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return ""
    return str(values.get("error") or values.get("detail") or "") if isinstance(values, dict) else ""


def predictions_of(values: dict[str, Any], count: int, url: str) -> list[dict[str, Any]]:
    """Return the predictions of an answer, one an image or row.

    Raises:
        VisionyardError: There are more or fewer than `count`.
    """
    predictions = values.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != count:
        raise VisionyardError(f"{url}: expected {count} predictions, got {str(predictions)[:80]}")
    return predictions


def transport_error(error: httpx.TransportError | httpx.InvalidURL, url: str, deadline: Deadline) -> VisionyardError:
    """Return the error for what httpx raises."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return deadline.error(url)
    return unreachable(url, str(error) or type(error).__name__)


class RestTransport:
    """Sends calls over one pool of connections."""

    def __init__(self, address: ServerAddress, api_key: str, ca_file: str) -> None:
        """Prepare; the first call connects."""
        self._url = address.url
        self._http = httpx.Client(**client_settings(address, api_key, ca_file))

    def predict(self, call: Call, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one an image."""
        answer = self._send("POST", "predict", deadline, **predict_request(call))
        return predictions_of(answer, len(call.images), self._url)

    def predict_rows(self, call: RowCall, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one a row."""
        answer = self._send("POST", "predict", deadline, **rows_request(call))
        return predictions_of(answer, len(call.rows), self._url)

    def model_info(self, model: str, deadline: Deadline) -> dict[str, Any]:
        """Return what the server tells of a model."""
        return self._send("GET", "model/info", deadline, params={"model": model} if model else {})

    def is_ready(self, deadline: Deadline) -> bool:
        """Return whether the server answers and its models are loaded."""
        try:
            return self._http.get("v2/health/ready", timeout=deadline.left_s).is_success
        except httpx.TransportError:
            return False

    def _send(self, method: str, path: str, deadline: Deadline, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, timeout=deadline.left_s, **request)
        except httpx.TransportError as error:
            raise transport_error(error, self._url, deadline) from None
        return read_answer(response, self._url)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncRestTransport:
    """The same for asyncio."""

    def __init__(self, address: ServerAddress, api_key: str, ca_file: str) -> None:
        """Prepare; the first call connects."""
        self._url = address.url
        self._http = httpx.AsyncClient(**client_settings(address, api_key, ca_file))

    async def predict(self, call: Call, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one an image."""
        answer = await self._send("POST", "predict", deadline, **predict_request(call))
        return predictions_of(answer, len(call.images), self._url)

    async def predict_rows(self, call: RowCall, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one a row."""
        answer = await self._send("POST", "predict", deadline, **rows_request(call))
        return predictions_of(answer, len(call.rows), self._url)

    async def model_info(self, model: str, deadline: Deadline) -> dict[str, Any]:
        """Return what the server tells of a model."""
        return await self._send("GET", "model/info", deadline, params={"model": model} if model else {})

    async def is_ready(self, deadline: Deadline) -> bool:
        """Return whether the server answers and its models are loaded."""
        try:
            return (await self._http.get("v2/health/ready", timeout=deadline.left_s)).is_success
        except httpx.TransportError:
            return False

    async def _send(self, method: str, path: str, deadline: Deadline, **request: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, timeout=deadline.left_s, **request)
        except httpx.TransportError as error:
            raise transport_error(error, self._url, deadline) from None
        return read_answer(response, self._url)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
