"""What `mkdocs.yml` builds the site of, besides the pages in this folder.

The site has the shape of the repository, without `docs/`: the READMEs stand where they lie, and so does every picture
and table that a page links to. A page for each registered model and one for the data sources are written here, from the
classes and from `benchmarks/results/`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from docstring_parser import parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from lightning_gen import registry
from lightning_gen.benchmark import leaderboard, results, wording
from lightning_gen.cli import listing, models

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "plugins/README.md", "plugins/*/README.md"),
    *("benchmarks/README.md", "benchmarks/*/README.md", "benchmarks/results/*.md"),
)
"""Of the repository, beside those in docs/."""
SHOWN = {".png", ".svg", ".gif", ".webp", ".jpg", ".html"}
"""What a page may link to and the site then holds; a link to another file of the repository becomes its text."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(^```.*?^```$|^    [^\n]*$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The menu has a line for each model."""
    for section in config.nav or []:
        for title, entries in section.items():
            if title == "Models":
                entries += [{name: model_page(name)} for name in registered()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that this folder does not hold, then what all of them link to."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            if "template" not in path.parts:
                files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    for name in registered():
        files.append(File.generated(config, model_page(name), content=written_model(name)))
    files.append(File.generated(config, "models/README.md", content=written_models()))
    files.append(File.generated(config, "data.md", content=written_data()))
    for page in [file for file in files if file.is_documentation_page()]:
        for target in linked(page.content_string, page.src_uri):
            path = in_repository(target)
            if path is not None and path.suffix in SHOWN and files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where the site has the file; the name of a file that it does not have is no link."""

    def rewritten(match: re.Match[str]) -> str:
        image, text, link = match.groups()
        target, _, anchor = link.partition("#")
        if not target or ":" in target:
            return match[0]
        whole = resolved(page.file.src_uri, target)
        if files.get_file_from_path(whole) is None and in_repository(whole) is not None and not image:
            return text
        near = os.path.relpath(whole, PurePosixPath(page.file.src_uri).parent).replace(os.sep, "/")
        return f"{image}[{text}]({near}{'#' + anchor if anchor else ''})"

    return "".join(
        part if number % 2 else LINK.sub(rewritten, part) for number, part in enumerate(CODE.split(markdown))
    )


def site_path(path: Path) -> str:
    """Where the site has a file of the repository."""
    return path.relative_to(ROOT).as_posix().removeprefix("docs/")


def in_repository(target: str) -> Path | None:
    """The inverse of `site_path`; None where there is no such file or folder."""
    return next((path for path in (ROOT / "docs" / target, ROOT / target) if path.exists()), None)


def resolved(page: str, target: str) -> str:
    """A link of a page as a path on the site. Pages in docs/ write theirs as the repository has them."""
    folder = PurePosixPath("docs", page).parent if (ROOT / "docs" / page).exists() else PurePosixPath(page).parent
    return os.path.normpath(folder / target).replace(os.sep, "/").removeprefix("docs/")


def linked(markdown: str, page: str) -> Iterator[str]:
    """Every file that a page links to, as a path on the site."""
    for _, _, link in LINK.findall(CODE.sub("", markdown)):
        target = link.partition("#")[0]
        if target and ":" not in target:
            yield resolved(page, target)


def registered() -> list[str]:
    """Models of this distribution."""
    return [part.name for part in registry.parts("models") if part.distribution == registry.OURS]


def model_page(name: str) -> str:
    """Path of a model's page."""
    return f"models/{name}.md"


def written_models() -> str:
    """The list of all models."""
    rows = []
    for name in registered():
        cls = registry.load(name)
        rows.append([f"[`{name}`]({name}.md)", listing.first_line(cls), linked_paper(cls.paper)])
    table = wording.grid(["name", "what", "paper"], rows, left=("name", "what", "paper"))
    return f"# Models\n\nEach is one file, trained by `lgen fit --model NAME`.\n\n{table}\n"


def written_model(name: str) -> str:
    """The page of a model: what its class says, how to train it, what came of it."""
    cls = registry.load(name)
    said = parse(inspect.getdoc(cls) or "")
    about = models.description(name)
    parts = [
        f"# {name}",
        said.short_description or "",
        f"Paper: {linked_paper(about['paper'])}",
        said.long_description or "",
        f"    lgen fit --model {name}",
        "## Presets",
        *(preset(key, about) for key in about["presets"]),
        "## Settings",
        settings("model", about["settings"]),
        *came_of_it(name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def linked_paper(paper: str) -> str:
    """The address at the end of a reference, clickable."""
    return re.sub(r"(https?://\S+)", r"<\1>", paper)


def preset(key: str, about: dict[str, Any]) -> str:
    """Sizes and values of a preset."""
    counts = ", ".join(f"{network} {count:,}" for network, count in about["parameters"][key].items())
    values = {f"model.{k}": v for k, v in about["presets"][key].items()} | about["recipes"].get(key, {})
    lines = "\n".join(f"    --{k} {v}" for k, v in values.items())
    return f"### {key}\n\nTrainable parameters: {counts}.\n\n{lines}"


def settings(group: str, known: dict[str, dict[str, Any]]) -> str:
    """A table of settings as the command line spells them."""
    rows = [
        [f"`--{group}.{name}`", f"`{about.get('default', '(must be given)')}`", about["help"]]
        for name, about in known.items()
    ]
    return wording.grid(["setting", "default", "what"], rows, left=("setting", "default", "what"))


def came_of_it(name: str) -> Iterator[str]:
    """The model's rows of each leaderboard, ranked among all, and its samples."""
    yield "## Results"
    found = False
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.jsonl")):
        rows = results.read(file)
        own = {leaderboard.label(row, rows) for row in rows if row.model == name}
        if not own:
            continue
        found = True
        board = leaderboard.build(rows)
        whole = f"[{file.stem}](../benchmarks/results/{file.stem}.md)"
        yield f"### Suite `{file.stem}`"
        for table in board.tables:
            lines = [[cell.text for cell in line] for line in board.ranked(table) if line[1].text in own]
            if lines:
                yield f"Rank among all of {whole}, {wording.title(table.passport)}:"
                yield wording.grid(board.header(table), lines, left=("entry", "weights"))
        failed = [f"Seed {row.seed} of `{row.entry}`: {row.reason}" for row in rows if row.model == name and row.reason]
        yield wording.bullets(failed)
        grids = sorted((row.seed, row.grid) for row in rows if row.model == name and row.grid)
        if grids:
            yield f"![Samples of {name}, seed {grids[0][0]}](../benchmarks/results/{grids[0][1]})"
    if not found:
        yield "No row in a leaderboard yet; [benchmarks](../benchmarks/README.md) may say what was tried."


def written_data() -> str:
    """The data sources, each with its settings."""
    parts = ["# Data", "`lgen fit --data NAME`; `lgen data NAME` prints the same settings."]
    for part in registry.parts("data"):
        if part.distribution == registry.OURS:
            cls = registry.load(part.name, "data")
            said = parse(inspect.getdoc(cls) or "")
            parts += [f"## {part.name}", said.short_description or "", said.long_description or ""]
            parts += [settings("data", listing.settings(cls))]
    return "\n\n".join(part for part in parts if part) + "\n"
