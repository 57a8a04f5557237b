"""Classes that no distribution brings: `FILE.py:Class`, as `--plugin` names them.

A run keeps the file's place and the digest of its text. Later verbs find the class again by itself as long as the
file is where it was, is the same to the byte, and was named by hand on this machine once: a checkpoint or a run.yaml
from elsewhere must not be able to say which code runs here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gen.errors import UserError, nearest

PREFIX = "_lgen_file_"
"""Of the names of the modules that files become."""


@dataclass(frozen=True)
class Code:
    """One class in one file, as the file is now."""

    file: Path
    """Absolute."""
    attribute: str
    sha256: str

    @property
    def digest(self) -> str:
        """What records and messages show of the sha256."""
        return self.sha256[:12]

    @property
    def spec(self) -> str:
        """As `--plugin` takes it."""
        return f"{self.file}:{self.attribute}"


def is_spec(word: str) -> bool:
    """Whether `word` means a file, not a name."""
    return ".py:" in word or word.endswith(".py")


def is_module(name: str) -> bool:
    """Whether a module of this name is a file that `--plugin` named."""
    return name.startswith(PREFIX)


def find(spec: str) -> Code:
    """The class that `spec` names, nothing of it imported.

    Raises:
        UserError: no such file, or none such in it; the message names the nearest.
    """
    place, _, attribute = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    if not place.endswith(".py"):
        raise UserError(f"--plugin {spec}: expected FILE.py:Class")
    file = Path(place).expanduser().absolute()
    if not file.is_file():
        similar = nearest(file.name, (path.name for path in file.parent.glob("*.py")))
        raise UserError(f"--plugin {spec}: there is no file {place}{similar}")
    try:
        text = file.read_bytes()
        classes = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    except OSError as reason:
        raise UserError(f"--plugin {spec}: {place} cannot be read ({reason.strerror})") from reason
    except (SyntaxError, ValueError) as reason:
        where = f" (line {reason.lineno})" if isinstance(reason, SyntaxError) and reason.lineno else ""
        said = reason.msg if isinstance(reason, SyntaxError) else str(reason)
        raise UserError(f"--plugin {spec}: {place} is no Python{where}: {said}") from reason
    if attribute not in classes:
        there = ", ".join(classes) or "none"
        missing = f"no class {attribute!r}{nearest(attribute, classes)}" if attribute else "which class?"
        raise UserError(f"--plugin {spec}: {missing} ({place} has {there})")
    return Code(file, attribute, hashlib.sha256(text).hexdigest())


def load(code: Code) -> Any:
    """The class, its file run as a module of its own. What the file raises is raised."""
    module_name = f"{PREFIX}{code.digest}_{code.file.stem}"
    if module_name not in sys.modules:
        found = importlib.util.spec_from_file_location(module_name, code.file)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[module_name] = module  # type hints are resolved, and objects pickled, by the module's name
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    return getattr(sys.modules[module_name], code.attribute)


def digest_of(cls: type) -> str:
    """Of the file that a class was loaded from, as `Code.digest` has it; where there is none the class's full name."""
    if is_module(cls.__module__):  # its name says what was loaded; the file may have changed since
        return cls.__module__.removeprefix(PREFIX).partition("_")[0]
    try:
        return hashlib.sha256(Path(str(sys.modules[cls.__module__].__file__)).read_bytes()).hexdigest()[:12]
    except (KeyError, AttributeError, OSError):
        return f"{cls.__module__}.{cls.__qualname__}"


def remember(code: Code) -> None:
    """The user named this code: it may run again without being named."""
    note = _note(code)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{code.file}\n")
    except OSError:
        pass  # a cache that cannot be written only means that it must be named again


def remembered(code: Code) -> bool:
    """Whether this very text was named by hand here."""
    return _note(code).is_file()


def record(code: Code) -> dict[str, str]:
    """What run.yaml and checkpoints keep."""
    return {"file": str(code.file), "class": code.attribute, "digest": code.digest}


def recall(kept: dict[str, str], whose: str) -> Code:
    """The code of a record, if it may run.

    Raises:
        UserError: the file has gone, has changed, or was never named by hand here; the message says what to type.
    """
    needs = f"{whose} needs the class {kept['class']} of {kept['file']}"
    if not Path(kept["file"]).is_file():
        raise UserError(f"{needs}, which is not there: if it moved, say --plugin FILE.py:{kept['class']}")
    code = find(f"{kept['file']}:{kept['class']}")
    if code.digest != kept["digest"]:
        raise UserError(
            f"{needs} as it was then ({kept['digest']}), and the file has changed ({code.digest}): put it back, or say "
            f"--plugin {code.spec} to go on with it as it is"
        )
    if not remembered(code):
        raise UserError(f"{needs}, which was never named here: look at it, then say --plugin {code.spec}")
    return code


def _note(code: Code) -> Path:
    from lightning_gen.data.cache import cache_folder

    return cache_folder() / "plugins" / code.sha256
