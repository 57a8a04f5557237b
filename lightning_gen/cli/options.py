"""Options that several verbs share."""

from __future__ import annotations

import inspect
import math
from types import NoneType
from typing import Any, get_args, get_type_hints

import click

from lightning_gen import registry
from lightning_gen.errors import UserError, nearest


def _include(ctx: click.Context, option: click.Parameter, specs: tuple[str, ...]) -> None:
    """Known for as long as the verb runs; also what a checkpoint adds is forgotten then."""
    ctx.with_resource(registry.including(specs))


plugin: Any = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py:Class",
    expose_value=False,
    is_eager=True,  # before the names of other options are looked up
    callback=_include,
    help="A model, data source, … that is in no distribution, under the name of its class; repeatable.",
)
"""What it names is a part like any other, so no verb has to know of it."""


class _Device(click.ParamType):
    """Where torch computes: a device that this machine has."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name as it was given.

        Raises:
            UserError: there is no such device.
        """
        if value == "cpu":  # the answer is known without importing torch
            return value
        import torch

        try:
            torch.ones(1, device=value).item()  # `meta` holds no number
        except Exception as reason:  # of many kinds: an unknown name, a build of torch without it, no driver, no GPU
            there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
            there += ["mps"] if torch.backends.mps.is_available() else []
            said = f"--device {value}: this machine has no such device (it has {', '.join(there)})"
            raise UserError(said) from reason
        return value


DEVICE = _Device()
"""The type of every --device."""

NUMBER = click.IntRange(0, 2**64 - 1)
"""The type of seeds and of places in their streams: `noise.mix` takes larger ones for smaller ones."""


def words(option: str, listed: str | None) -> list[str]:
    """What an option lists with commas between; nothing where it is left out.

    Raises:
        UserError: it lists nothing.
    """
    found = [word.strip() for word in (listed or "").split(",") if word.strip()]
    if listed is not None and not found:
        raise UserError(f"{option} {listed!r} names nothing")
    return found


def several(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """For an option that can be given more than once: each may list `words`."""
    return tuple(word for listed in values for word in words(option.opts[0], listed))


def finite(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """A number that images can be made from: of NaN they would look like those of a model that has diverged.

    Raises:
        UserError: NaN or infinity.
    """
    if value is not None and not math.isfinite(value):
        raise UserError(f"{option.opts[0]} {value}: must be a finite number")
    return value


truncation: Any = click.option(
    "--truncation",
    type=float,
    callback=finite,
    metavar="X",
    help="More typical and less varied images, from models that offer it: 0.5 of biggan, 0.7 of stylegan2.",
)
guidance: Any = click.option(
    "--guidance",
    type=float,
    callback=finite,
    metavar="X",
    help="How much images keep to what was asked for, from models that offer it.",
)


own: Any = click.option(
    "--option",
    "own",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the model's own, such as category=3 of infogan; repeatable.",
)


def of_its_own(model: Any, name: str, given: tuple[str, ...]) -> dict[str, Any]:
    """What --option gives: keyword options of the model's `generate`, of the types that its signature says.

    Raises:
        UserError: the model has no such option, or the value is of another type.
    """
    import yaml

    offered = [key for key, one in inspect.signature(model.generate).parameters.items() if one.kind is one.KEYWORD_ONLY]
    hints = get_type_hints(model.generate)
    asked: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--option {pair}: expected KEY=VALUE")
        if key not in offered:
            said = f"it has {', '.join(offered)}" if offered else "it has none"
            raise UserError(f"--option {key}: {name} does not offer it ({said}){nearest(key, offered)}")
        kinds = get_args(hints.get(key)) or (hints.get(key, object),)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if type(value) is int and float in kinds:
            value = float(value)
        plain = [kind for kind in kinds if isinstance(kind, type) and kind is not NoneType]
        if plain and type(value) not in plain and object not in plain:
            raise UserError(f"--option {pair}: {key} must be {' or '.join(kind.__name__ for kind in plain)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--option {pair}: must be a finite number")
        asked[key] = value
    return asked


label: Any = click.option(
    "--label", metavar="CLASS", help="Class of every image, by its name or number, for a conditional model."
)


def of_classes(model: Any, given: str | None) -> int | None:
    """The class that --label names; a name goes before a number, as folders of classes may be called 2 and 10.

    Raises:
        UserError: the model draws no classes, or not this one.
    """
    if given is None:
        return None
    if not model.num_classes:
        raise UserError(f"{model.origin['model']} is not conditional: --label means nothing to it")
    known: list[str] = model.origin.get("class_names", [])
    if given in known:
        return known.index(given)
    if given.isdecimal() and int(given) < model.num_classes:
        return int(given)
    named = f" ({', '.join(known[:3])}{' ...' if len(known) > 3 else ''})" if known else ""
    raise UserError(
        f"--label {given}: the model knows classes 0 to {model.num_classes - 1}{named}{nearest(given, known)}"
    )


checkpoint: Any = click.option(
    "--checkpoint", type=click.Choice(["last", "best"]), help="Of a run; its last by default."
)


def of_generate(model: Any, name: str, **given: Any) -> dict[str, Any]:
    """Options of the model's `generate` that the user gave; the others are None.

    Raises:
        UserError: the model has no such option.
    """
    asked = {key: value for key, value in given.items() if value is not None}
    for key in asked:
        if key not in inspect.signature(model.generate).parameters:
            raise UserError(f"--{key}: {name} does not offer it")
    return asked


def names(kind: str) -> Any:
    """Completes names of registered parts in the shell; reads entry points only."""

    def complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        return [name for name in registry.names(kind) if name.startswith(begun)]

    return complete
