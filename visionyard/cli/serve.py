"""`visionyard serve`: model bundles behind REST and gRPC until the process is told to stop."""

import gc
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from visionyard.config import load_serving_config, parse_serving_config
from visionyard.config.serving_config import ServingConfig
from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.serving.listening import Listening

# Addresses that mean all of this machine's; a person who tries them out needs one.
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 (names it, listens on nothing)


def make_config(
    bundles: Sequence[str],
    names: Sequence[str],
    *,
    path: Path | None,
    settings: Sequence[str],
    host: str | None,
    http_port: int | None,
    grpc_port: int | None,
) -> ServingConfig:
    """Lay what the command line says over the config.

    Args:
        bundles: Served beside the models of the config.
        names: Of the first bundles, in their order; the others keep their own.
        path: `serving.yaml`.
        settings: `section.key=value` texts.
        host: In place of server.host.
        http_port: In place of server.http_port.
        grpc_port: In place of server.grpc_port.

    Raises:
        ConfigError: A value is wrong, there are more names than bundles, or nothing to serve.
    """
    if len(names) > len(bundles):
        raise ConfigError(f"--name: {len(names)} names for {len(bundles)} bundles; give a bundle for each")
    values: dict[str, Any] = load_serving_config(path, overrides=settings).model_dump()
    for key, value in (("host", host), ("http_port", http_port), ("grpc_port", grpc_port)):
        if value is not None:
            values["server"][key] = value
    padded = [*names, *([""] * (len(bundles) - len(names)))]
    values["models"] = [{"path": b, "name": n} for b, n in zip(bundles, padded, strict=True)] + list(values["models"])
    config = parse_serving_config(values)
    if not config.models:
        raise ConfigError("no model to serve: name a bundle, such as `visionyard serve runs/RUN/bundle`")
    missing = [model.path for model in config.models if "://" not in model.path and not Path(model.path).is_dir()]
    if missing:
        raise ConfigError([f"{path}: no such folder; expected a model bundle" for path in missing])
    return config


def serve_command(config: ServingConfig, *, console: Console) -> None:
    """Serve until SIGTERM or Ctrl-C; says where, in which format and why, and what to try.

    Raises:
        ConfigError: A port is taken, or a setting does not fit.
        ArtifactError: A bundle is refused.
        StorageError: A bundle cannot be fetched.
    """
    start = time.perf_counter()
    # The collector would look again and again through objects that stay anyway: importing takes 2.45 s of processor
    # time without it, 3.06 s with it (least of seven, busy machine). Frozen, they do not hold up requests either.
    gc.disable()
    from visionyard.serving.server import serve

    gc.freeze()
    gc.enable()
    imports_s = time.perf_counter() - start

    def announce(listening: "Listening") -> None:
        for line in _lines(listening):
            console.print(line, markup=False, soft_wrap=True)

    serve(config, announce, imports_s=imports_s)


def _lines(listening: "Listening") -> list[str]:
    if not listening.models:
        also = f", gRPC on {listening.grpc_address}" if listening.grpc_address else ""
        return [f"listening on {listening.url}{also}; loading ..."]
    lines = [f"{each.name}: {each.reason}" for each in listening.models]
    url = listening.url
    for host, tried in _ANY_HOST.items():
        url = url.replace(f"//{host}:", f"//{tried}:")
    model = f"?model={listening.models[0].name}" if len(listening.models) > 1 else ""
    return [
        *lines,
        f"ready; try, or open {url}/ in a browser:",
        f"  curl --data-binary @image.jpg {shlex.quote(f'{url}/predict{model}')}",
        f"  curl -F image=@image.jpg {shlex.quote(f'{url}/predict/image{model}')} -o drawn.jpg",
        f"  curl {shlex.quote(f'{url}/model/info{model}')}",
    ]
