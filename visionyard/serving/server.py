"""The model server: one process, REST and gRPC, several models.

KServe's `ModelServer` holds the parts together, but does not start them: its own start opens the ports only after the
models are loaded, on all addresses, with plain text for gRPC, without limits, and its stop unloads the models first and
then lets requests fail. Here the ports open at once, readiness follows when every model is warm, and a stopping server
answers what it has admitted.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import grpc
import uvicorn
from prometheus_client.registry import REGISTRY
from structlog.typing import FilteringBoundLogger

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import ConfigError
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving.answering import Answering
from visionyard.serving.application import make_app, with_cors
from visionyard.serving.connections import make_http_protocol
from visionyard.serving.gate import Gate
from visionyard.serving.grpc_server import GrpcGate, open_grpc
from visionyard.serving.guard import Guard
from visionyard.serving.kserve_sdk import ModelServer, RefreshingServer
from visionyard.serving.listening import BACKLOG, Announce, Listening, Stop, bind, place_of
from visionyard.serving.logs import make_logger, take_over_loggers
from visionyard.serving.memory import return_huge_blocks
from visionyard.serving.payloads import PayloadReader
from visionyard.serving.protocol import YardDataPlane, YardRepository, YardRepositoryExtension
from visionyard.serving.requests import InFlight
from visionyard.serving.routes import Routes
from visionyard.serving.store import ModelStore
from visionyard.serving.url_inputs import UrlFetcher

# Longer than the idle time of usual proxies, or these get a closed connection now and then; KServe's value.
_KEEP_ALIVE_S = 65
# When all is answered, clients on open connections are still told with 503 to go elsewhere, rather than cut off.
_FAREWELL_S = 0.5


class YardServer(ModelServer):  # type: ignore[misc]  # KServe has no type information
    """A server of model bundles."""

    def __init__(self, config: ServingConfig, *, logger: FilteringBoundLogger, metrics: ServingMetrics) -> None:
        """Put the parts together; inside a running event loop.

        Args:
            config: All of its settings.
            logger: Where lines go.
            metrics: Where figures go.

        Raises:
            ConfigError: The file of keys cannot be read.
        """
        self._config = config
        self._logger = logger
        self._in_flight = InFlight()
        self._store = ModelStore(config, metrics)
        self._fetcher = UrlFetcher(config.url_inputs)
        answering = Answering(self._store, config, metrics)
        reader = PayloadReader(config.limits.max_images, self._fetcher.fetch)
        repository = YardRepository(answering, reader, config)
        super().__init__(
            http_port=config.server.http_port,
            grpc_port=config.server.grpc_port,
            registered_models=repository,
            enable_grpc=config.server.grpc_port >= 0,
            enable_latency_logging=False,
            grace_period=int(config.server.grace_s),
            ssl_certfile=config.tls.cert_file or None,
            ssl_keyfile=config.tls.key_file or None,
        )
        self.dataplane = YardDataPlane(repository, self._store, self._in_flight)
        self.model_repository_extension = YardRepositoryExtension(repository, self._store)
        parts: dict[str, Any] = {
            "config": config,
            "guard": Guard(config.auth, config.rate_limit),
            "metrics": metrics,
            "in_flight": self._in_flight,
            "logger": logger,
        }
        routes = Routes(
            answering=answering,
            reader=reader,
            metrics=metrics,
            data_plane=self.dataplane,
            extension=self.model_repository_extension,
            in_flight=self._in_flight,
            has_docs=config.server.docs,
        )
        app: Any = make_app(config, routes, self.dataplane, self.model_repository_extension)
        self._app = with_cors(Gate(app, **parts), config)
        self._grpc_gate = GrpcGate(**parts)

    async def run(self, stop: Stop, announce: Announce) -> None:
        """Listen, load the models, answer until told to stop, and finish what was admitted.

        Args:
            stop: Tells when to stop.
            announce: Called when the server listens, and again when every model is ready.

        Raises:
            ConfigError: A port is taken, or a setting of a model does not fit.
            ArtifactError: A bundle is refused.
            StorageError: A bundle cannot be fetched.
        """
        with contextlib.closing(bind(self._config)) as listener:
            rest = self._open_rest()
            grpc_server, grpc_port = self._open_grpc()
            serving = asyncio.create_task(rest.serve(sockets=[listener]))
            try:
                await _started(rest, serving)
                if grpc_server is not None:
                    await grpc_server.start()
                place = place_of(self._config, listener, grpc_port)
                self._logger.info("listening", url=place.url, grpc=place.grpc_address)
                announce(place)
                if await self._load(stop):
                    announce(
                        Listening(place.url, place.grpc_address, [self._store.get(n) for n in self._store.names()])
                    )
                    await stop.asked.wait()
                await self._drain(stop)
            finally:
                rest.should_exit = True
                await serving
                if grpc_server is not None:
                    await grpc_server.stop(grace=0)
                await self._store.close()
                await self._fetcher.close()
        self._logger.info("stopped")

    def _open_rest(self) -> "_RestServer":
        tls = self._config.tls
        config = uvicorn.Config(
            self._app,
            http=make_http_protocol(self._config.limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            # What was admitted has been waited for already.
            timeout_graceful_shutdown=1,
            backlog=BACKLOG,
            ssl_certfile=tls.cert_file or None,
            ssl_keyfile=tls.key_file or None,
        )
        try:
            config.load()
        except OSError as error:
            raise ConfigError(f"tls: {tls.cert_file} and {tls.key_file} cannot be used: {error}") from None
        return _RestServer(config)

    def _open_grpc(self) -> tuple[grpc.aio.Server | None, int]:
        if not self.enable_grpc:
            return None, -1
        return open_grpc(self._config, self.dataplane, self.model_repository_extension, self._grpc_gate)

    async def _load(self, stop: Stop) -> bool:
        """Load every model of the config; False when told to stop before all were there."""
        loading = asyncio.create_task(self._load_all())
        stopping = asyncio.create_task(stop.asked.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            await asyncio.wait({loading})
            return False
        loading.result()
        return True

    async def _load_all(self) -> None:
        for model in self._config.models:
            start = time.perf_counter()
            served = await self._store.load(model)
            self._logger.info(
                "model loaded",
                model=served.name,
                digest=served.digest,
                format=served.format,
                device=served.device,
                reason=served.reason,
                seconds=round(time.perf_counter() - start, 3),
            )

    async def _drain(self, stop: Stop) -> None:
        """Admit nothing more, and finish what was admitted, unless told to hurry."""
        grace_s = self._config.server.grace_s
        self._in_flight.is_draining = True
        self._logger.info("stopping", grace_s=grace_s)
        finishing = asyncio.create_task(self._in_flight.drained(grace_s))
        hurrying = asyncio.create_task(stop.hurried.wait())
        await asyncio.wait({finishing, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not finishing.done() or not finishing.result():
            finishing.cancel()
            self._logger.warning("requests were cut off", grace_s=grace_s)
        await asyncio.sleep(0 if stop.hurried.is_set() else min(_FAREWELL_S, grace_s))


class _RestServer(RefreshingServer):  # type: ignore[misc]
    """uvicorn without its signal handlers: they would stop it before the requests are finished."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(config: ServingConfig, announce: Announce, *, imports_s: float = 0.0) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was admitted and return.

    Args:
        config: All settings, with at least one model.
        announce: Called when the server listens, and again when every model is ready.
        imports_s: What importing the server took, for the log.

    Raises:
        ConfigError: There is no model, a port is taken, or a setting does not fit.
        ArtifactError: A bundle is refused.
        StorageError: A bundle cannot be fetched.
    """
    if not config.models:
        raise ConfigError("no model to serve: name a bundle, or list models in the config")
    return_huge_blocks()
    logger = make_logger(config.log_level)
    take_over_loggers(logger)

    def tell(listening: Listening) -> None:
        if listening.models:
            # Of prometheus_client's process collector; absent where there is no /proc.
            began = REGISTRY.get_sample_value("process_start_time_seconds")
            since_start_s = None if began is None else round(time.time() - began, 2)
            logger.info("ready", since_start_s=since_start_s, imports_s=round(imports_s, 2))
        announce(listening)

    async def main() -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.ask)
        await YardServer(config, logger=logger, metrics=ServingMetrics(REGISTRY)).run(stop, tell)

    # uvicorn's choice of event loop; left to itself, its config would set up the loggers anew.
    loop_factory = uvicorn.Config("unused", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def _started(rest: _RestServer, serving: "asyncio.Task[None]") -> None:
    while not rest.started:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.005)
