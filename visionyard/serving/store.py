"""The models of a server: loading, replacing, unloading, and whether all of them are ready."""

import asyncio
import contextlib
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from visionyard.config.serving_config import ServedModelConfig, ServingConfig
from visionyard.digests import sha256_bytes
from visionyard.errors import ConfigError, NotFoundError, OverloadedError
from visionyard.inference.backends import Backend
from visionyard.inference.bundle import Bundle
from visionyard.inference.choice import FormatChoice, choose_format
from visionyard.inference.predictor import Predictor
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving.cache import open_cache
from visionyard.serving.concurrency import Concurrency, ElasticBackend, settle_concurrency
from visionyard.serving.engine import ServedModel
from visionyard.stage_resources import core_count

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ModelStore:
    """All models of a server.

    Loading a name that is served replaces the model without a gap: the new one answers once it is warm, the old one
    finishes what it has. Loads and unloads happen one after the other.
    """

    def __init__(self, config: ServingConfig, metrics: ServingMetrics) -> None:
        """Start the threads that decode; no model is loaded yet.

        Args:
            config: Of the server.
            metrics: Where figures go.
        """
        self._config = config
        self._metrics = metrics
        self._models: dict[str, ServedModel] = {}
        self._known: dict[str, ServedModelConfig] = {}
        self._expected = list(config.models)
        self._is_closed = False
        self._changing = asyncio.Lock()
        self._pool = ThreadPoolExecutor(core_count(), thread_name_prefix="images")
        self._folder = contextlib.ExitStack()
        self._cache = open_cache(config.cache, on_failure=metrics.cache_failures.inc)

    @property
    def is_ready(self) -> bool:
        """Whether every model of the config was loaded, all that are served are warm, and the store is not closing."""
        return not self._is_closed and not self._expected and all(model.is_ready for model in self._models.values())

    def names(self) -> list[str]:
        """Return the names of the models that are served, sorted."""
        return sorted(self._models)

    def known(self) -> dict[str, ServedModelConfig]:
        """Return the config of every model that was ever loaded here, by name; unloaded ones can be loaded again."""
        return dict(self._known)

    def get(self, name: str) -> ServedModel:
        """Return a model.

        Raises:
            NotFoundError: None of this name is served; lists those that are.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFoundError(f"model {name[:64]!r}: not served here; served: {', '.join(self.names()) or 'none'}")
        return model

    async def load(self, model: ServedModelConfig) -> ServedModel:
        """Fetch, verify, open and warm a model, then serve it.

        Raises:
            ArtifactError: The bundle is incomplete, altered or of an unknown version.
            StorageError: It cannot be fetched.
            ConfigError: Its format, device or name does not fit.
            OverloadedError: The server is stopping.
        """
        async with self._changing:
            if self._is_closed:
                raise OverloadedError("the server is stopping and loads no model any more; try another server")
            served = await self._open(model)
            old = self._models.get(served.name)
            self._models[served.name] = served
            self._known[served.name] = model
            if old is not None:
                await self._retire(old)
            self._metrics.show_model(served.name, digest=served.digest, format=served.format, device=served.device)
            with contextlib.suppress(ValueError):
                self._expected.remove(model)
            return served

    async def unload(self, name: str) -> None:
        """Stop serving a model: new requests do not find it, those in flight are finished.

        Raises:
            NotFoundError: None of this name is served.
        """
        async with self._changing:
            model = self.get(name)
            del self._models[name]
            await self._retire(model)
            self._metrics.forget_model(name)

    async def close(self) -> None:
        """Unload all models, each once its requests in flight are finished, and end the threads."""
        self._is_closed = True
        async with self._changing:
            models, self._models = list(self._models.values()), {}
            await asyncio.gather(*(self._retire(model) for model in models))
            self._pool.shutdown()
            if self._cache is not None:
                self._cache.close()
            self._folder.close()

    async def _open(self, model: ServedModelConfig) -> ServedModel:
        served = await asyncio.to_thread(self._build, model)
        try:
            await served.warm_up()
        except BaseException:
            await served.close()
            raise
        return served

    def _build(self, model: ServedModelConfig) -> ServedModel:
        bundle = Bundle.open(self._local_folder(model.path))
        name = model.name or bundle.manifest.name
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{model.path}: the bundle's name {name!r} does not fit into a URL; give models.name (letters, digits, "
                "'.', '_', '-', at most 63)"
            )
        choice = choose_format(bundle, wanted=model.format, device=model.device)
        settled = settle_concurrency(model, format=choice.format, device=choice.device, cores=core_count())
        backend = _load_backend(bundle, choice, settled)
        manifest = bundle.manifest
        return ServedModel(
            name,
            Predictor(backend, manifest.preprocessing, manifest.postprocessing, manifest.classes),
            manifest=manifest,
            digest=bundle.digest,
            format=choice.format,
            reason=choice.reason,
            device=choice.device,
            instances=settled.instances,
            config=self._config,
            metrics=self._metrics,
            pool=self._pool,
            cache=self._cache,
        )

    def _local_folder(self, path: str) -> Path:
        if "://" not in path:
            return Path(path).expanduser()
        # urllib3 and minio take 0.1 s to import, which a bundle on disk need not wait for.
        from visionyard import storage

        if storage.is_local(path):
            return storage.local_path(path)
        root = self._config.server.bundle_folder or self._folder.enter_context(
            tempfile.TemporaryDirectory(prefix="visionyard-bundles-")
        )
        folder = Path(root) / sha256_bytes(path.encode())[:16]
        storage.fetch_folder(path, folder, mirror=True)
        return folder

    async def _retire(self, model: ServedModel) -> None:
        await model.close()
        self._metrics.hide_model(model.name, digest=model.digest, format=model.format, device=model.device)


def _load_backend(bundle: Bundle, choice: FormatChoice, settled: Concurrency) -> Backend:
    alone = bundle.backend(choice.format, threads=settled.alone_threads, device=choice.device)
    if settled.instances == 1 or settled.crowd_threads == settled.alone_threads:
        return alone
    crowd = bundle.backend(choice.format, threads=settled.crowd_threads, device=choice.device)
    # The warm-up inference runs by itself, so the copy for the crowd is warmed here.
    crowd.run_all(np.zeros((1, *bundle.manifest.preprocessing.input_shape), np.float32))
    return ElasticBackend(alone, crowd)
