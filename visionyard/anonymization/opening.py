"""From the settings `frames.anonymize` to what changes pictures: the detector is fetched, checked and tried out."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from visionyard import storage
from visionyard.config import describe_problems
from visionyard.config.run_config import AnonymizeConfig
from visionyard.errors import ArtifactError, ConfigError, ModelError, ShapeError

if TYPE_CHECKING:
    from visionyard.inference.bundle import Bundle
    from visionyard.video.retouching import Retouching

_SECTION = "frames.anonymize"
_ONNX_ENDING = ".onnx"


def parse_anonymize(values: Mapping[str, Any]) -> AnonymizeConfig:
    """Check plain values and return the section `frames.anonymize` they describe.

    Raises:
        ConfigError: Any value is wrong; it lists all mistakes.
    """
    try:
        return AnonymizeConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError([f"{_SECTION}.{each}" for each in describe_problems(error, AnonymizeConfig)]) from None


def input_addresses(config: AnonymizeConfig) -> list[str]:
    """Return the addresses that are read: the model, and the spec of an ONNX file; none when nothing is hidden."""
    if not config.model:
        return []
    return [config.model, *([_spec_address(config)] if _is_onnx(config.model) else [])]


def _is_onnx(address: str) -> bool:
    return address.lower().endswith(_ONNX_ENDING)


def _spec_address(config: AnonymizeConfig) -> str:
    return config.spec or f"{config.model[: -len(_ONNX_ENDING)]}.spec.yaml"


@contextmanager
def open_anonymizing(config: AnonymizeConfig) -> "Iterator[Retouching | None]":
    """Yield what hides what the detector finds; None when no detector is named.

    The detector is tried out on a picture of noise first: one that does not fit its spec is refused before any picture
    is looked at.

    Args:
        config: The settings.

    Raises:
        ConfigError: There is no such model, it is no detector, lacks a class that is named, or cannot be run here.
        StorageError: The store cannot be read.
    """
    if not config.model:
        yield None
        return
    if find_spec("onnxruntime") is None:
        raise ConfigError(f"{_SECTION}.model needs onnxruntime, which is not installed; pip install 'visionyard[data]'")
    import numpy as np

    from visionyard.anonymization.anonymizer import Anonymizer, AnonymizerSettings
    from visionyard.digests import digest_of
    from visionyard.video.process import memory_limit_bytes
    from visionyard.video.retouching import Retouching

    with TemporaryDirectory(prefix="visionyard-") as scratch:
        bundle = _open_bundle(config, Path(scratch))
        manifest = bundle.manifest
        classes = config.classes or manifest.classes
        settings = AnonymizerSettings(
            bundle=str(bundle.folder.absolute()),
            digest=bundle.digest,
            class_ids=tuple(sorted(manifest.classes.index(name) for name in set(classes))),
            confidence=config.confidence,
            padding=config.padding,
            method=config.method,
        )
        try:
            anonymizer = Anonymizer(settings)
            anonymizer(np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8))
        except (ArtifactError, ShapeError) as error:
            raise ConfigError(f"{_said(config)}: {error}") from None
        specs = [manifest.preprocessing.model_dump(mode="json"), manifest.postprocessing.model_dump(mode="json")]
        try:
            yield Retouching(
                retouch=anonymizer,
                decoder_command=(
                    *(sys.executable, "-m", "visionyard.anonymization._child"),
                    *(str(memory_limit_bytes()), settings.to_text()),
                ),
                values={
                    "model": manifest.name,
                    "model_sha256": manifest.formats["onnx"].sha256,
                    "spec_digest": digest_of([*specs, manifest.classes]),
                    "classes": sorted(set(classes)),
                    "confidence": config.confidence,
                    "padding": config.padding,
                    "method": config.method,
                },
            )
        finally:
            anonymizer.close()


def _said(config: AnonymizeConfig) -> str:
    return f"{_SECTION}.model = {storage.shown(config.model)!r}"


def _open_bundle(config: AnonymizeConfig, scratch: Path) -> "Bundle":
    """Return the detector as a bundle; what is fetched or imported lies in `scratch`."""
    from visionyard.inference.bundle import Bundle

    if _is_onnx(config.model):
        folder = _imported(config, scratch)
    elif config.spec:
        raise ConfigError(
            f"{_SECTION}.spec is for a file that ends in .onnx; {_said(config)} is a bundle, with its own"
        )
    else:
        folder = _fetched(config, config.model, "model", scratch, is_folder=True)
    try:
        bundle = Bundle.open(folder)
    except ArtifactError as error:
        raise ConfigError(
            f"{_said(config)}: {error}; expected a model bundle's folder, or a file that ends in .onnx"
        ) from None
    manifest = bundle.manifest
    if manifest.task != "detection":
        raise ConfigError(f"{_said(config)}: it is for {manifest.task}; expected a detector, whose boxes are hidden")
    if "onnx" not in manifest.formats:
        raise ConfigError(f"{_said(config)}: the bundle has {', '.join(manifest.formats)}; export it with onnx, too")
    if unknown := sorted(set(config.classes) - set(manifest.classes)):
        raise ConfigError(
            f"{_SECTION}.classes holds {', '.join(unknown)}; the detector knows {', '.join(manifest.classes)}"
        )
    return bundle


def _imported(config: AnonymizeConfig, scratch: Path) -> Path:
    """Return the folder of a bundle made from an ONNX file and its spec."""
    from visionyard.export.import_spec import read_import_spec
    from visionyard.export.importing import import_model

    model = _fetched(config, config.model, "model", scratch, is_folder=False)
    spec = _fetched(config, _spec_address(config), "spec", scratch, is_folder=False)
    try:
        values = read_import_spec(spec)
        import_model(model, values, scratch / "bundle")
    except (ConfigError, ArtifactError, ModelError) as error:
        raise ConfigError(f"{_said(config)}: {error}") from None
    return scratch / "bundle"


def _fetched(config: AnonymizeConfig, address: str, what: str, scratch: Path, *, is_folder: bool) -> Path:
    """Return the local path of a model or spec, fetched where it lies elsewhere."""
    if not storage.is_local(address):
        # Its own name is what errors speak of.
        target = scratch / what
        if is_folder:
            storage.fetch_folder(address, target)
            return target
        target.mkdir()
        return storage.fetch_file(address, target)
    path = storage.local_path(address)
    if what == "spec" and not path.is_file():
        raise ConfigError(
            f"{_SECTION}.spec = {address!r}: no such file; an ONNX file needs one that says how pictures go in and "
            "boxes come out (docs/bundles.md), or name a bundle made by `visionyard bundle import`"
        )
    if not path.exists() or path.is_dir() != is_folder:
        expected = "a model bundle's folder, or a file that ends in .onnx"
        found = "no such file or folder" if not path.exists() else "a file" if path.is_file() else "a folder"
        raise ConfigError(f"{_said(config)}: {found}; expected {expected}")
    return path
