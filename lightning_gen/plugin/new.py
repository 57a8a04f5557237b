"""`lgen plugin new`: the template, under another name."""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
from pathlib import Path

from lightning_gen import registry
from lightning_gen.errors import UserError

PLACES = (Path(__file__).with_name("template"), Path(__file__).parents[2] / "plugins" / "template")
"""Where the template is: installed with the package, or in a checkout that was installed in place."""

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write(name: str, folder: Path | None = None) -> Path:
    """A distribution of one model, ready to be installed; gives its directory.

    Args:
        name: What `--model` will take; the distribution is lgen-NAME.
        folder: Where to; lgen-NAME here if left out.

    Raises:
        UserError: a name that cannot be one or is taken, a folder that is there already. Nothing is written then.
    """
    _refuse(name)
    folder = folder or Path(f"lgen-{name}")
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another NAME or --out")
    template = next(place for place in PLACES if place.is_dir())
    class_name = "".join(word.capitalize() for word in name.split("-"))
    files = {path: path.read_text(encoding="utf-8") for path in _files(template)}
    words = {word for text in files.values() for word in re.findall(r"\b[A-Z]\w*", text)} - {"Template"}
    if class_name in words or keyword.iskeyword(class_name):
        raise UserError(f"{name!r} would make a class {class_name}, which means something else there: add a word to it")

    def renamed(text: str) -> str:
        text = text.replace("lgen_template", f"lgen_{name.replace('-', '_')}")
        return re.sub(r"\bTemplate\b", class_name, re.sub(r"\btemplate\b", name, text))

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
            for path, text in files.items():
                target = Path(unfinished) / folder.name / renamed(str(path.relative_to(template)))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(renamed(text), encoding="utf-8")
            shutil.move(Path(unfinished) / folder.name, folder)
    except OSError as reason:
        raise UserError(f"cannot write {folder}: {reason.strerror}") from reason
    return folder


def _refuse(name: str) -> None:
    if not NAME.fullmatch(name):
        words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name).lower())
        near = "-".join(words).lstrip("0123456789-")
        suggestion = f"; did you mean {near!r}?" if near else ""
        raise UserError(f"{name!r} cannot be a name: small letters, digits and -, a letter first{suggestion}")
    if name.startswith("lgen-"):
        raise UserError(f"{name!r}: the distribution is called lgen-NAME by itself; did you mean {name[5:]!r}?")
    if name in registry.names():
        owner = registry.part(name)
        raise UserError(
            f"{owner.distribution} {owner.version} has a model {name!r} already: two of one name are refused"
        )


def _files(template: Path) -> list[Path]:
    return sorted(
        path
        for path in template.rglob("*")
        if path.is_file() and path.suffix in (".py", ".toml", ".md") and "__pycache__" not in path.parts
    )
