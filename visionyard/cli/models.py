"""`visionyard models`: which plugins there are, with task, presets and options."""

from rich.console import Console
from rich.table import Table

from visionyard.models import get_plugin, plugin_names


def print_models(console: Console) -> None:
    """Print a line for each plugin."""
    table = Table(box=None, pad_edge=False)
    for heading in ("Name", "Task", "Licence", "Extra"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Presets (default first)", overflow="fold")
    for name in plugin_names():
        info = get_plugin(name).info
        presets = [info.default_preset, *(preset for preset in info.presets if preset != info.default_preset)]
        table.add_row(name, info.task, info.licence, info.extra, ", ".join(presets))
    console.print(table)
    console.print("\nvisionyard models show NAME lists its options", style="dim")


def print_model(console: Console, name: str) -> None:
    """Print a plugin's presets and options.

    Raises:
        ConfigError: There is no such plugin.
    """
    plugin = get_plugin(name)
    info = plugin.info
    console.print(f"[bold]{info.name}[/bold]  {info.task}  {info.licence}\n{info.description}\n")
    presets = Table(title="Presets (model.preset)", title_justify="left", box=None, pad_edge=False)
    for heading in ("Name", "What", "Image size px", "Batch size", "Learning rate"):
        presets.add_column(heading)
    for preset_name, preset in info.presets.items():
        mark = " (default)" if preset_name == info.default_preset else ""
        presets.add_row(
            preset_name + mark,
            preset.description,
            str(preset.image_size_px or "-"),
            str(preset.batch_size),
            f"{preset.learning_rate:g}",
        )
    console.print(presets)
    options = Table(title="\nOptions (model.options)", title_justify="left", box=None, pad_edge=False)
    for heading in ("Name", "Default", "What"):
        options.add_column(heading)
    for option_name, field in plugin.options_model.model_fields.items():
        options.add_row(option_name, str(field.default), field.description or "")
    console.print(options)
    console.print(f"\nWeights (model.weights): {info.weights}", soft_wrap=True)
