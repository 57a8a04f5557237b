"""The documentation as a site: it builds without a warning, holds what it should, and no link leads nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lightning_gen import registry

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        self.links += [value for name in ("href", "src") if (value := found.get(name))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's, about its own future
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return place


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        if path.name != "404.html" and "results" not in path.parts:  # leaderboards are pages of their own
            yield path, Page(path)


def test_every_registered_model_has_a_page_with_its_paper_settings_and_presets(site: Path) -> None:
    for part in registry.parts("models"):
        if part.distribution != registry.OURS:
            continue
        cls = registry.load(part.name)
        text = (site / "models" / f"{part.name}.html").read_text(encoding="utf-8")
        assert cls.paper.split("http")[1] in text
        assert all(f'id="{preset}"' in text for preset in cls.presets)
        assert "--model." in text
        assert f"{part.name}.html" in [unquote(link) for link in Page(site / "models" / "index.html").links]


def test_a_model_with_rows_shows_them_and_its_samples(site: Path) -> None:
    text = (site / "models" / "dcgan.html").read_text(encoding="utf-8")
    assert "FID/tiny" in text
    assert "benchmarks/results/shapes/dcgan-0.png" in text


def test_every_link_of_every_page_resolves(site: Path) -> None:
    known = dict(pages(site))
    broken = []
    for path, page in known.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                broken.append(f"{path.relative_to(site)} -> {link}")
            elif address.fragment and target in known and unquote(address.fragment) not in known[target].anchors:
                broken.append(f"{path.relative_to(site)} -> {link} (no such place)")
    assert not broken


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert 'src="http' not in text
        assert "fonts.googleapis" not in text
