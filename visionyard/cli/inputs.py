"""The files that a run config names beside its source: where they lie, and what their content is."""

from visionyard.anonymization import input_addresses
from visionyard.config import RunConfig
from visionyard.digests import digest_of
from visionyard.errors import StorageError

DATA_DIGEST = "data_digest"
SPLIT_FILE_DIGEST = "data_split_file_digest"
ANONYMIZE_DIGEST = "frames_anonymize_digest"


def named_inputs(config: RunConfig) -> dict[str, list[str]]:
    """Return the addresses behind each digest among the pipeline's parameters; none for a setting that is empty."""
    return {
        SPLIT_FILE_DIGEST: [config.data.split_file] if config.data.split_file else [],
        ANONYMIZE_DIGEST: input_addresses(config.frames.anonymize),
    }


def unknown_digests(config: RunConfig) -> list[str]:
    """Return the digests among the pipeline's parameters that a run lacks when nobody looks at its inputs."""
    return [DATA_DIGEST, *(name for name, addresses in named_inputs(config).items() if addresses)]


def input_digests(config: RunConfig) -> dict[str, str]:
    """Return the pipeline's parameters that say what these files hold, empty texts for settings that are empty.

    Raises:
        StorageError: One cannot be read.
    """
    from visionyard.storage import source_digest

    found = {}
    for name, addresses in named_inputs(config).items():
        try:
            digests = [source_digest(address) for address in addresses]
        except StorageError as error:
            raise StorageError(f"{name.removesuffix('_digest').replace('_', '.', 1)}: {error}") from None
        found[name] = digest_of(digests) if digests else ""
    return found
