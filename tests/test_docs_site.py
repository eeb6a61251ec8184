"""The documentation becomes a site whose links lead somewhere, and which loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documented import PAGES, ROOT

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object|link)\b[^>]*?"""
    r"""\b(?:src|href|data)=["']?(?:https?:)?//[^"'> ]+"""
)
LOADED_BY_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^)"']+""")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the extra `docs` is absent")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in PAGES:
        if page.startswith("docs/"):
            assert (site / page.removeprefix("docs/")).with_suffix(".html").is_file(), page
    for elsewhere in ("index", "changelog", "client", "model-card", "calls", "reference/index"):
        assert (site / f"{elsewhere}.html").is_file()


def test_no_page_and_no_style_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert LOADED.findall(path.read_text(encoding="utf-8")) == [], path.name
    for path in site.rglob("*.css"):
        assert LOADED_BY_STYLES.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_scripts_load_from_elsewhere_only_what_no_page_asks_for(site: Path) -> None:
    """The theme fetches diagrams' renderer, a repository's stars, and what browsers of before 2020 lack."""
    addresses = set()
    for path in (site / "assets").rglob("*.js"):
        addresses |= set(re.findall(r"[\"'`]https?://([\w.-]+/[\w-]+)", path.read_text(encoding="utf-8")))
    known = {"unpkg.com/resize-observer-polyfill", "unpkg.com/mermaid", "api.github.com/repos", "api.github.com/users"}
    assert addresses - {"www.w3.org/1999"} <= known | {"gitlab.com/api"}
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text and 'data-md-component="source"' not in text, path.name


def test_the_calls_of_the_site_are_those_of_the_service(site: Path) -> None:
    text = (site / "calls.html").read_text(encoding="utf-8")
    assert "<code>POST /v1/search</code>" in text and "openapi.json" in text
    assert (site / "openapi.json").read_bytes() == (ROOT / "docs" / "openapi.json").read_bytes()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere_in_the_repository(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{page}: {target}"


def anchors(text: str) -> set[str]:
    """Those of headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    titles = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ +(.*)$", text, flags=re.M))
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}
