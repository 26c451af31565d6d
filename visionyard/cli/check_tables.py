"""What of a run config makes no sense for a table, and models that do not fit what is learnt from."""

from visionyard.config import RunConfig
from visionyard.config.loading import field_of
from visionyard.models import get_plugin, plugin_names

_TABLE = "table"
# Settings that only images or clips have, with what a table has in their place.
_OF_IMAGES = {
    "data.classes": "leave rows of other classes out of the file",
    "data.group_pattern": "name a group column in the schema file",
    "data.previous": "name a split column in the schema file and use data.split_mode published",
    "data.group_by": "name a group column in the schema file",
    "data.near_duplicates": "rows with the same features are always kept together",
    "data.leak_budget": "rows with the same features are always kept together",
    "frames.rate_hz": "a table has no clips",
    "frames.max_per_clip": "a table has no clips",
    "frames.drop_blurred": "a table has no clips",
    "frames.drop_similar": "a table has no clips",
    "frames.jpeg_quality": "a table has no clips",
    "frames.anonymize.model": "rows show nothing; name columns of people under ignore in the schema file",
}


def table_problems(config: RunConfig) -> list[str]:
    """Return what does not fit together, one sentence each."""
    names = plugin_names()
    if config.model.name not in names:
        return []
    is_table = config.data.kind == _TABLE
    learns_tables = get_plugin(config.model.name).info.task.startswith(f"{_TABLE}_")
    if not is_table:
        told = f"model.name = {config.model.name!r}: it learns from tables, and data.kind is {config.data.kind!r}"
        return [f"{told}; set data.kind: table, or choose a model of images"] if learns_tables else []
    fitting = [name for name in names if get_plugin(name).info.task.startswith(f"{_TABLE}_")]
    problems = []
    if not learns_tables:
        told = f"model.name = {config.model.name!r}: it learns from images, and data.kind is 'table'"
        problems.append(f"{told}; choose {' or '.join(fitting)}")
    return problems + [
        f"{path} = {_value(config, path)!r}: not for tables: {instead}"
        for path, instead in _OF_IMAGES.items()
        if _value(config, path) != _default(path)
    ]


def _value(config: RunConfig, path: str) -> object:
    found: object = config
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _default(path: str) -> object:
    return field_of(RunConfig, path).get_default(call_default_factory=True)
