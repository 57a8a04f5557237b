"""Settings: read off the signatures of model, data source, Trainer and callbacks, resolved once, written to run.yaml.

Precedence: command line, then ``--config``, then preset and recipe, then the defaults of the signatures. This module
imports no torch; the classes whose signatures it reads do.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from lightning_gen import registry
from lightning_gen.errors import UserError, nearest

CALLBACKS = ("log", "samples", "metrics", "watch", "checkpoint", "progress", "report")
"""Built-in callbacks in the order in which they act: `checkpoint` must see the score of the weights it saves, and
what the watch says of them."""

GROUPS = ("model", "data", "update", "augment", "trainer", "kimg", "seed", "preset", "logger", "callbacks", "config",
          "plugins")  # fmt: skip
"""What settings are called that belong to no callback."""

LOGGERS = ("tensorboard", "csv", "wandb")

TRAINER = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "deterministic",
    "benchmark",
    "detect_anomaly",
    "profiler",
)
"""What of Lightning's Trainer a user may set. The rest is ours (budget, loggers, callbacks) or refused by manual
optimization (clipping, accumulation)."""

FREE = ("kimg", "logger", "callbacks", "data.workers", "data.root", "data.root_b", "trainer.accelerator",
        "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.profiler",
        "trainer.benchmark")  # fmt: skip
"""What a resumed run may change: how long, where it reports, on what it runs, where its images lie now (that they are
the same its checkpoint knows); and every callback's settings."""

OPTIONS = ("--model", "--data", "--preset", "--config", "--out", "--resume", "--logger", "--callback", "--plugin",
           "--print-config")  # fmt: skip
"""What `lgen fit` takes besides settings: a misspelt one arrives here, and may be the nearest right name."""

SHARES = {"log": 200, "samples": 20, "metrics": 5, "watch": 1000, "checkpoint": 20, "report": 10}
"""How many times a callback acts over the budget when its interval is not set."""


@dataclass(frozen=True)
class Settings:
    """Everything that defines a run, as plain values."""

    model: str
    data: str
    preset: str | None
    values: dict[str, Any]
    """Nested: `kimg`, `seed`, `logger`, `callbacks`, and the groups `model`, `data`, `update`, `augment`, `trainer` and
    one a callback."""
    explicit: frozenset[str] = frozenset()
    """Dotted names of what the user set, on the command line or in a file."""
    notes: list[str] = field(default_factory=list)
    """Sentences that the user should read."""
    plugins: list[dict[str, str]] = field(default_factory=list)
    """File, class and digest of whatever `--plugin` brought into the run."""

    def to_yaml(self) -> str:
        """What run.yaml holds; it is a valid ``--config`` too."""
        plain = {
            **self.values,
            "model": {"name": self.model, **self.values["model"]},
            "data": {"name": self.data, **self.values["data"]},
            "preset": self.preset,
            **({"plugins": self.plugins} if self.plugins else {}),
        }
        order = ["model", "preset", "data", "kimg", "seed"]
        return yaml.safe_dump({k: plain[k] for k in [*order, *(k for k in plain if k not in order)]}, sort_keys=False)


def resolve(
    arguments: Sequence[str] = (),
    *,
    model: str | None = None,
    data: str | None = None,
    preset: str | None = None,
    config: str | None = None,
    logger: Sequence[str] = (),
    callbacks: Sequence[str] = (),
) -> Settings:
    """The settings of a new run.

    Args:
        arguments: Options as on the command line, such as ``["--model.lr", "1e-3", "--kimg", "50"]``.
        model: Registered name; may stand in `config` instead.
        data: Registered name; the model's `usual_data`, `shapes` for most, where nothing says otherwise.
        preset: One of the model's presets. Where neither a preset nor a setting of the model is given it is
            `photographs` for photographs, if the model has it, and else `quick`.
        config: A YAML file of settings.
        logger: Names of loggers, or ("none",).
        callbacks: Names of registered callbacks beyond the built-in ones.

    Raises:
        UserError: an unknown name or setting, a value of the wrong type or range.
    """
    file = read_yaml(config) if config else {}
    notes = _recall(file, config or "")
    model = model or _named(file, "model", config) or registry.only_unpackaged_model()
    if not model:
        raise UserError(f"which model? --model NAME, one of: {', '.join(registry.names('models'))}")
    # names first: they are checked without importing anything
    registry.part(model, "models")
    data = data or _named(file, "data", config) or registry.load(model).usual_data
    of_model = file.get("model")
    kept = isinstance(of_model, dict) and set(of_model) - {"name"}
    if preset and file.get("preset") not in (None, preset) and kept:
        raise UserError(
            f"{config} holds the settings of preset {file['preset']}, which would stay as they are: "
            f"leave --preset {preset} out, or the settings and the preset out of the file"
        )
    preset = preset or file.get("preset")
    registry.part(data, "data")
    parser, model_class = _parser(model, data, [*_callbacks(file, config), *callbacks])
    explicit = _explicit(parser, arguments, config)
    for shadow in registry.refused(model):
        notes.append(f"{model} is {registry.OURS}'s; that of {shadow.distribution} is refused: {shadow.problem}")
    if preset is None and "quick" in model_class.presets:
        own = any(key.startswith("model.") for key in explicit)
        photographs = registry.load(data, "data").photographs and "photographs" in model_class.presets
        usual = "photographs" if photographs else "quick"
        preset = None if own else usual
        notes.append(
            f"no preset, as settings of {model} were given: its others are the class's own, mostly the paper's; "
            f"--preset {usual} takes the small ones"
            if own
            else f"preset {usual} (no preset and no setting of {model} was given; `lgen models {model}` lists them)"
        )
    if preset is not None:
        _apply_preset(parser, model, model_class, preset)
    values = _parse(parser, arguments, config, callbacks)
    values["logger"] = _loggers(logger or values["logger"])
    if "data.resolution" not in explicit and "resolution" in values["data"]:
        from_model = "model.image_shape" in explicit or (
            preset is not None and "image_shape" in model_class.presets[preset]
        )
        if from_model:
            values["data"]["resolution"] = values["model"]["image_shape"][-1]
    _fill_intervals(values)
    return Settings(model, data, preset, values, explicit, notes, _plugins(model, data, values))


def resolve_resumed(
    run: Path, arguments: Sequence[str] = (), *, logger: Sequence[str] = (), callbacks: Sequence[str] = ()
) -> Settings:
    """The settings of the run in the directory `run`, with the changes that a resumed run may make.

    Raises:
        UserError: `run` is no run, or a setting was changed that would make it another run; the message names it.
    """
    path = run / "run.yaml"
    if not path.is_file():
        raise UserError(f"{run} is not a run directory: it has no run.yaml")
    before = read_yaml(str(path))
    notes = _recall(before, str(path))
    before.pop("plugins", None)
    model, data = _named(before, "model", str(path)), _named(before, "data", str(path))
    if not model or not data:
        raise UserError(f"{path} does not say which model it trains on which data: it is no run.yaml of lightning_gen")
    del before["model"]["name"], before["data"]["name"]
    preset = before.pop("preset", None)
    parser, _ = _parser(model, data, [*_callbacks(before, str(path)), *callbacks])
    explicit = _explicit(parser, arguments, None)
    parser.set_defaults(_flatten(before, parser))
    after = _parse(parser, arguments, None, callbacks)
    after["logger"] = _loggers(logger or after["logger"])
    was, now = _leaves(before), _leaves(after)
    for key in sorted(explicit):
        free = key in FREE or key.split(".")[0] in after["callbacks"]
        if not free and was.get(key) != now.get(key):
            raise UserError(
                f"--{key} {now.get(key)} would make another run of {run} (it has {was.get(key)}): "
                f"a resumed run may change {', '.join(FREE[:5])}, the devices and the callbacks' settings"
            )
    _fill_intervals(after)  # of callbacks that are new
    return Settings(model, data, preset, after, explicit, notes, _plugins(model, data, after))


def _parser(model: str, data: str, callbacks: Sequence[str]) -> tuple[ArgumentParser, Any]:
    """A parser with one group for each signature, and the model's class."""
    from pytorch_lightning import Trainer

    from lightning_gen.augment import AugmentOptions
    from lightning_gen.update import UpdateOptions

    model_class, source_class = registry.load(model, "models"), registry.load(data, "data")
    parser = ArgumentParser(prog="lgen fit", exit_on_error=False, allow_abbrev=False, print_config=None)
    parser.add_argument("--config", action="config")
    parser.add_argument("--kimg", type=PositiveFloat, default=1000.0, help="Budget: thousands of real images seen.")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="Names the order of the data and all noise.")
    parser.add_argument("--preset", type=str | None, default=None)
    parser.add_argument("--plugins", type=list[dict[str, str]], default=[])  # in files only: run.yaml holds them
    parser.add_argument("--logger", type=list[str], default=["tensorboard"])
    parser.add_argument("--callbacks", type=list[str], default=list(dict.fromkeys(callbacks)))
    for group, cls in (("model", model_class), ("data", source_class)):
        parser.add_argument(f"--{group}.name", type=str | None, default=None)
        kind = "models" if group == "model" else "data"
        with registry.blamed(model if group == "model" else data, kind, "has settings that cannot be read"):
            parser.add_class_arguments(cls, group, fail_untyped=True)
    parser.add_argument(
        "--data.batch_size", type=PositiveInt, default=64, help="Images in a batch, over all processes."
    )
    parser.add_argument("--data.workers", type=NonNegativeInt, default=0, help="Processes that load data ahead.")
    parser.add_class_arguments(UpdateOptions, "update")
    parser.add_class_arguments(AugmentOptions, "augment")
    ours = set(inspect.signature(Trainer).parameters) - set(TRAINER)
    parser.add_class_arguments(Trainer, "trainer", skip=ours, fail_untyped=False)
    for name in dict.fromkeys(callbacks):
        if name in GROUPS:
            raise UserError(f"a callback cannot be called {name!r}: the settings have a group of that name")
        with registry.blamed(name, "callbacks", "has settings that cannot be read"):
            parser.add_class_arguments(registry.load(name, "callbacks"), name, fail_untyped=True)
    return parser, model_class


def _apply_preset(parser: ArgumentParser, model: str, model_class: Any, preset: str) -> None:
    if preset not in model_class.presets:
        known = ", ".join(model_class.presets)
        raise UserError(f"{model} has no preset {preset!r}{nearest(preset, model_class.presets)} (it has {known})")
    values = {f"model.{key}": value for key, value in model_class.presets[preset].items()}
    for key, value in model_class.recipes.get(preset, {}).items():
        # a recipe may name a setting that only some data sources have (data.flip)
        if _known(parser, key) or not key.startswith("data."):
            values[key] = value
    with registry.blamed(model, "models", f"has a preset {preset} that cannot be taken"):
        _check_values(parser, values)
    parser.set_defaults(values)


def _check_values(parser: ArgumentParser, values: Mapping[str, Any]) -> None:
    """Raises ValueError for a name or a value that no setting has: defaults are taken unseen."""
    given = Namespace()
    for key, value in values.items():
        given[key] = value
    try:
        parser.parse_object(given, defaults=False)
    except ArgumentError as reason:
        raise ValueError(_in_the_users_words(str(reason), parser)) from reason


def _known(parser: ArgumentParser, key: str) -> bool:
    return f"--{key}" in parser._option_string_actions


def _parse(
    parser: ArgumentParser, arguments: Sequence[str], config: str | None, callbacks: Sequence[str]
) -> dict[str, Any]:
    values = _namespace(parser, arguments, config, defaults=True).as_dict()
    for key in ("config", "preset", "plugins"):
        values.pop(key)
    values["model"].pop("name")
    values["data"].pop("name")
    values["callbacks"] = list(dict.fromkeys([*values["callbacks"], *callbacks]))  # a file has a list of its own
    return _plain(values)


def _loggers(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in (*LOGGERS, "none"):
            raise UserError(f"unknown logger {name!r}{nearest(name, LOGGERS)} (there are {', '.join(LOGGERS)}, none)")
    return [name for name in names if name != "none"]


def _explicit(parser: ArgumentParser, arguments: Sequence[str], config: str | None) -> frozenset[str]:
    for group in ("model", "data"):
        if any(word.split("=")[0] == f"--{group}.name" for word in arguments):
            raise UserError(f"--{group}.name stands in files only: on the command line it is --{group} NAME")
    given = _namespace(parser, arguments, config, defaults=False).as_dict()
    return frozenset(_leaves(given)) - {"config", "plugins", "model.name", "data.name"}


def _namespace(parser: ArgumentParser, arguments: Sequence[str], config: str | None, defaults: bool) -> Namespace:
    first = ["--config", config] if config else []
    try:
        return parser.parse_args([*first, *_lists_in_brackets(parser, arguments)], defaults=defaults)
    except ArgumentError as reason:
        raise UserError(_in_the_users_words(str(reason), parser)) from reason


def _is_list(hint: Any) -> bool:
    """Whether a setting of this type is a list or missing, nothing else; `--trainer.devices` may be a number."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return {get_origin(one) for one in members if one is not NoneType} <= {list, tuple, Sequence}


def _lists_in_brackets(parser: ArgumentParser, arguments: Sequence[str]) -> Iterator[str]:
    """`--metrics.names fid,modes`, as the verbs take lists, is `--metrics.names [fid,modes]` to jsonargparse."""
    hints = {option: getattr(action, "_typehint", None) for option, action in parser._option_string_actions.items()}
    lists = {option for option, hint in hints.items() if _is_list(hint)}
    before = ""
    for word in arguments:
        option, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        value = value.strip()
        bare = option in lists and value and value[0] not in "[(" and value != "null"
        yield (f"{option}=[{value}]" if equals else f"[{value}]") if bare else word
        before = word


def _in_the_users_words(message: str, parser: ArgumentParser) -> str:
    """jsonargparse's message in one line, in the command line's spelling, with the nearest right name."""
    options = [*OPTIONS, *(option for option in parser._option_string_actions if option.startswith("--"))]
    if missing := re.search(r"arguments are required: (.*)", message):
        return f"must be given: {', '.join(f'--{name}' for name in missing[1].split(', '))}"
    if unknown := re.search(r"[Uu]nrecognized arguments: (.*)", message):
        word = unknown[1].split()[0].split("=")[0]
        return f"unknown setting {word}{nearest(word, options)}"
    if unknown := re.search(r"(?:Group '([\w.]+)' does not|does not) accept option '([\w.]+)'", message):
        word = "--" + ".".join(filter(None, unknown.groups()))
        return f"unknown setting {word[2:]}{nearest(word, options).replace('--', '')}"
    if unknown := re.search(r"[Oo]ption '([\w.]+)' is not accepted", message):
        return f"unknown setting {unknown[1]}{nearest(f'--{unknown[1]}', options).replace('--', '')}"
    if wrong := re.search(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL):
        return f"--{wrong[1]}: {_reason(wrong[2])}"
    return " ".join(message.split())


EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "tuple": "a list like 1,2",
    "NoneType": "null",
}
"""What a type of Python is called where a user's value has another."""


def _reason(message: str) -> str:
    message = " ".join(message.split())
    if several := re.search(r"Does not validate against any of the Union subtypes.*Given value: (.*)", message):
        known = ", ".join(re.findall(r"- Expected a typing\.Literal\[(.*?)\]", message))
        types = [EXPECTED.get(name, name) for name in re.findall(r"- Expected a <class '(\w+)'>", message)]
        return f"expected {f'one of {known}' if known else ' or '.join(types)}, got {several[1]!r}"
    if bad := re.search(r"Not of type \w+: (.*) does not conform to restriction (.*)", message):
        for symbol, words in ((">=0", "0 or more"), (">0", "more than 0"), ("<=1", "1 or less"), ("<1", "less than 1")):
            message = message.replace(f"v{symbol}", words)
        return f"must be {message[bad.start(2) :]}, got {bad[1]}"
    if bad := re.search(r"Not of type (\w+): (.*)", message):
        got = re.search(r": '(.*)'$", bad[2])
        expected = EXPECTED["int" if bad[1].endswith("Int") else "float"]
        return f"expected {expected}" + (f", got {got[1]!r}" if got else "")
    if bad := re.search(r"Expected a tuple with (\d+) elements. Got value: (.*)", message):
        return f"expected a list of {bad[1]}, got {bad[2]}"
    if bad := re.search(r"Expected a (?:<class '(\w+)'>|typing\.)(.*)\. Got value: (.*)", message):
        wanted = EXPECTED.get(bad[1], bad[1]) if bad[1] else bad[2].replace("Literal", "one of ")
        return f"expected {wanted}, got {bad[3]!r}"
    return message


def _fill_intervals(values: dict[str, Any]) -> None:
    for name, share in SHARES.items():
        if name in values and values[name].get("every_kimg") is None:
            values[name]["every_kimg"] = float(f"{values['kimg'] / share:.6g}")


def read_yaml(path: str) -> dict[str, Any]:
    """The content of a file of settings.

    Raises:
        UserError: no such file, or one that holds something else; the message names the line.
    """
    if not os.path.isfile(path):
        raise UserError(f"there is no settings file {path}")
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.MarkedYAMLError as reason:
        mark = reason.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{path} is not valid YAML: {where}{reason.problem}") from reason
    except (yaml.YAMLError, UnicodeDecodeError) as reason:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(reason).split())}") from reason
    except OSError as reason:
        raise UserError(f"the settings file {path} cannot be read: {reason.strerror}") from reason
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings: expected lines like 'kimg: 100'")
    for key, value in content.items():
        if value is None and key != "preset":  # a run without one has `preset: null`
            raise UserError(f"{path}: nothing stands below '{key}:': leave the line out")
    return content


def _named(file: Mapping[str, Any], group: str, path: str | None) -> str | None:
    """The name of the model or of the data source, which stands among its settings."""
    value = file.get(group)
    name = value.get("name") if isinstance(value, dict) else value
    if name is not None and (not isinstance(name, str) or not isinstance(value, dict)):
        raise UserError(f"{path}: expected lines like '{group}: {{name: NAME}}', got '{group}: {value}'")
    return name


def _recall(file: Mapping[str, Any], path: str) -> list[str]:
    """Make the unpackaged classes known that a file of settings names; gives what the user should read."""
    kept = file.get("plugins", [])
    wanted = {"file", "class", "digest"}
    if not isinstance(kept, list) or not all(isinstance(one, dict) and wanted <= set(one) for one in kept):
        raise UserError(f"{path}: expected plugins as run.yaml has them, each with file, class and digest")
    return registry.recall(kept, path)


def _plugins(model: str, data: str, values: Mapping[str, Any]) -> list[dict[str, str]]:
    scores = values.get("metrics", {})
    used = [("models", model), ("data", data), *(("callbacks", name) for name in values["callbacks"])]
    used += [("metrics", name) for name in scores.get("names", [])]
    return registry.unpackaged_among([*used, ("extractors", scores.get("extractor", ""))])


def _callbacks(file: Mapping[str, Any], path: str | None) -> list[str]:
    names = file.get("callbacks", list(CALLBACKS))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: expected a list of names under callbacks, got {names}")
    return names


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _flatten(values: Mapping[str, Any], parser: ArgumentParser) -> dict[str, Any]:
    """Settings that the parser knows, dictionaries among them: those of a plugin's older version may have gone."""
    flat, unknown = {}, []

    def walk(below: Mapping[str, Any], prefix: str) -> None:
        for key, value in below.items():
            name = f"{prefix}{key}"
            group = any(option.startswith(f"--{name}.") for option in parser._option_string_actions)
            if isinstance(value, dict) and (group or not _known(parser, name)):
                walk(value, f"{name}.")
            elif _known(parser, name):
                flat[name] = value
            else:
                unknown.append(name)

    walk(values, "")
    if unknown:
        raise UserError(f"run.yaml has settings that the installed version does not know: {', '.join(unknown)}")
    return flat


def _plain(value: Any) -> Any:
    """Only what YAML and a weights-only checkpoint can hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    for kind in (bool, int, float):  # restricted types are subclasses, which neither YAML nor a checkpoint takes
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else str(value)
