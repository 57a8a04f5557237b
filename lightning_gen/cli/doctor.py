"""`lgen doctor`: what this machine has, before time is spent on it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys

import click

from lightning_gen import __version__, registry
from lightning_gen.errors import UserError, said_as
from lightning_gen.plugin import survey

IMPORT = 60.0
"""Seconds that each plugin may take to be imported."""

LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "torch-fidelity", "jsonargparse", "wandb")


@click.command("doctor")
@click.option("--data", metavar="DIR|ARCHIVE", help="Also look at this set of images.")
@click.option("--metrics", is_flag=True, help="Also score a fixed set and compare with what it should score.")
@click.option("--speed", is_flag=True, help="Also time what precision, layout and optimizer a fit would take here.")
def command(data: str | None, metrics: bool, speed: bool) -> None:
    """Check devices, versions, plugins, extractor weights and a set of images. Exit code 1 on a problem."""
    problems = _machine()
    if not problems:  # without its libraries nothing of ours can be imported
        strangers = survey.survey(load=IMPORT)
        problems = [*_plugins(strangers), *_extractors(strangers)]
        if data is not None:
            problems += _images(data)
        if metrics:
            problems += _metrics()
        if speed:
            _speed()
    for problem in problems:
        click.echo(f"PROBLEM  {problem}")
    click.echo("no problem found" if not problems else f"{len(problems)} problem{'s' * (len(problems) > 1)}")
    sys.exit(1 if problems else 0)


def _machine() -> list[str]:
    click.echo(
        f"lightning-gen {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    click.echo(", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES))
    for name in ("torch", "torchvision"):
        try:
            importlib.import_module(name)
        except Exception as reason:  # of a build for another torch it is a RuntimeError
            said = f"{type(reason).__name__}: {(str(reason).strip().splitlines() or [''])[0]}"
            return [f"{name} cannot be imported ({said}): install torch and torchvision at once, from one index"]
    import torch

    click.echo(
        f"CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        click.echo(f"GPU {index}: {about.name}, {about.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        click.echo("GPU: none that torch can use")
    return []


def _plugins(strangers: list[survey.Row]) -> list[str]:
    """Ours are imported here, those of strangers were imported elsewhere."""
    for kind, word in registry.KINDS.items():
        ready = [part.name for part in registry.parts(kind) if part.distribution == registry.OURS]
        for name in ready:
            registry.load(name, kind)
        ready += [row.plugin for row in strangers if row.kind == word and row.state == "ready"]
        click.echo(f"{word}s: {', '.join(sorted(ready))}")
    return [
        f"{row.kind} {row.plugin!r} of {row.distribution} {row.version}: {row.reason}"
        for row in strangers
        if row.state != "ready"
    ]


def _extractors(strangers: list[survey.Row]) -> list[str]:
    problems = []
    broken = {row.plugin for row in strangers if row.kind == "extractor" and row.state != "ready"}
    ours = {part.name for part in registry.parts("extractors") if part.distribution == registry.OURS}
    for name in registry.names("extractors"):
        if name in broken - ours:
            continue
        try:
            cls = registry.load(name, "extractors")
            with registry.blamed(name, "extractors", "cannot be constructed"):
                weights = cls().weights_digest if cls.at_hand() else None
            if weights is not None:
                click.echo(f"weights of {name}: {weights}")
            else:
                # no problem: only who asks for this extractor needs them
                click.echo(
                    f"weights of {name}: not on this machine (`lgen extractors {name}` fetches them or says how)"
                )
        except UserError as reason:
            problems.append(str(reason).splitlines()[0])
    return problems


def _metrics() -> list[str]:
    from lightning_gen.metrics import selftest

    wrong = selftest.wrong()
    if not wrong:
        click.echo(f"metrics: {', '.join(selftest.EXPECTED)} of the fixed set are what they should be")
    return wrong


def _speed() -> None:
    """Nothing here is a problem: a user may have reasons."""
    import torch

    from lightning_gen import speed

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found, taken = speed.measure(device), speed.chosen(device)
    plain = found[speed.WAYS[0]]
    where = "one GPU" if device.type == "cuda" else f"the CPU, {torch.get_num_threads()} threads"
    click.echo(f"training {speed.MODEL}'s quick networks on {where}, {speed.BATCH} images a step, images a second:")
    for way, rate in found.items():
        mark = "  <- `lgen fit`" if way == taken else ""
        click.echo(f"  {way.name:24} {rate:8.0f}  {rate / plain:5.2f} times{mark}")
    if taken.precision == "bf16-mixed":
        click.echo(
            "  bf16 is taken, since this processor has units for it (AMX, AVX512-BF16); "
            "--trainer.precision 32-true refuses it"
        )
    else:
        reason = (
            "was not tried on GPUs yet" if device.type == "cuda" else "only pays where a processor has units for it"
        )
        click.echo(f"  bf16 {reason}: --trainer.precision bf16-mixed asks for it")


def _images(root: str) -> list[str]:
    import numpy as np

    from lightning_gen.data.cache import Unreadable
    from lightning_gen.data.folder import Folder, named_sizes, sizes_of

    problems = []
    try:
        with said_as({"--data.root ": ""}):
            sizes = sizes_of(root)
            try:
                source = Folder(root=root)
            except Unreadable:
                source = Folder(root=root, on_error="skip")
                problems.append(f"{root}: a run stops at an unreadable image; --data.on_error skip leaves them out")
    except UserError as reason:
        return [str(reason)]
    rows = source.read(np.arange(min(len(source), 2000)))["image"].float()
    classes = f"{source.num_classes} classes" if source.num_classes else "no classes"
    click.echo(
        f"{root}: {len(source):,} image{'' if len(source) == 1 else 's'} of {named_sizes(sizes)} pixels, {classes}, "
        f"split {source.split}; mean {rows.mean():.0f}, deviation {rows.std():.0f} of 255"
    )
    for note in source.notes:
        click.echo(f"  {note}")
    if len(source) < 2048:
        problems.append(f"{root} has fewer than 2,048 images: a score against so few says little")
    if source.num_classes == 1:
        problems.append(f"{root} has a single class, {source.class_names[0]!r}: every label would be 0")
    if float(rows.flatten(1).std(dim=1).median()) < 2:
        problems.append(f"{root}: most images are one plain colour")
    if len(np.unique(rows.flatten(1).numpy(), axis=0)) < 0.9 * len(rows):
        problems.append(f"{root}: more than a tenth of the first {len(rows)} images are copies of others")
    return problems
