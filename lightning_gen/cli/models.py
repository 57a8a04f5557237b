"""`lgen models`: which models are installed, and everything about one of them."""

from __future__ import annotations

import json
from typing import Any

import click

from lightning_gen import registry
from lightning_gen.cli import listing, options


@click.command("models")
@click.argument("name", required=False, shell_complete=options.names("models"))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@options.plugin
def command(name: str | None, as_json: bool) -> None:
    """List the installed models; with NAME: paper, settings, presets, parameter counts."""
    if name is None:
        listing.installed("models", as_json)
        return
    about = description(name)
    if as_json:
        click.echo(json.dumps(about, indent=2, default=str))
        return
    first_line = listing.first_line(registry.load(name, "models"))
    click.echo(f"{name}: {first_line}\n{about['paper']}\n{about['distribution']} {about['version']}\n")
    listing.settings_table("model", about["settings"])
    for preset, values in about["presets"].items():
        counts = ", ".join(f"{network} {count:,}" for network, count in about["parameters"][preset].items())
        click.echo(f"\npreset {preset}: {counts} trainable parameters")
        for key, value in [*((f"model.{k}", v) for k, v in values.items()), *about["recipes"].get(preset, {}).items()]:
            click.echo(f"  --{key} {value}")


def description(name: str) -> dict[str, Any]:
    """What `lgen models NAME --json` says: paper, settings, presets, recipes, trainable parameters of each preset."""
    cls = registry.load(name, "models")
    part = registry.part(name, "models")
    return {
        "name": name,
        "distribution": part.distribution,
        "version": part.version,
        "paper": cls.paper,
        "settings": listing.settings(cls),
        "presets": {preset: _plain(values) for preset, values in cls.presets.items()},
        "recipes": cls.recipes,
        "parameters": {preset: parameters(_on_meta(name, values)) for preset, values in cls.presets.items()},
    }


def parameters(model: Any) -> dict[str, int]:
    """Trainable parameters of each network; averaged copies have none."""
    counts = {name: sum(p.numel() for p in net.parameters() if p.requires_grad) for name, net in model.named_children()}
    return {name: count for name, count in counts.items() if count}


def _on_meta(name: str, values: dict[str, Any]) -> Any:
    """The model inside `torch.device("meta")`: the largest networks are counted without memory."""
    import torch

    with torch.device("meta"):
        return registry.make(name, "models", **values)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
