"""Pages of the site that are written elsewhere in the repository, and links to what lies there.

The README, the model card and others are included as they stand, never copied. Links in every page are written for a
reader of the repository; here they are turned to where the site has the same thing. A link that leads nowhere ends the
build (``mkdocs build --strict``).
"""

import json
import posixpath
import re
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "clients/python/README.md": "client.md",
    "model/demo/README.md": "model-card.md",
}
SOURCES = {page: source for source, page in ELSEWHERE.items()}
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)#\s]+)")
SWAGGER = package_files("fastapi_offline") / "static"  # as the service's own /docs has it
REFERENCE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>ALTA retrieval: every call</title>
<link rel="stylesheet" href="swagger-ui.css">
<div id="calls"></div>
<script src="swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({spec: SPECIFICATION, dom_id: "#calls", validatorUrl: null, supportedSubmitMethods: []})
</script>
</html>
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    specification = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    files.append(File.generated(config, "calls.md", content=calls(specification)))
    # In the page itself, so that it opens from a folder too; "</" would end the script.
    inline = json.dumps(specification).replace("</", "<\\/")
    files.append(File.generated(config, "reference/index.html", content=REFERENCE.replace("SPECIFICATION", inline)))
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        files.append(File.generated(config, f"reference/{name}", content=(SWAGGER / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def turned(link: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2])), config, files)
        return link[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(turned, markdown)


def site_path(path: str, config: MkDocsConfig, files: Files) -> str:
    """Where the site has what lies at ``path`` in the repository; files that are no pages are taken in for it."""
    if f"{path}/README.md" in ELSEWHERE:
        path += "/README.md"
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    taken_in = f"repository/{path}"
    if (ROOT / path).is_file() and files.get_file_from_path(taken_in) is None:
        files.append(File.generated(config, taken_in, abs_src_path=str(ROOT / path)))
    return taken_in


def calls(specification: dict[str, Any]) -> str:
    """A page with a table of every call."""
    rows = [
        "# Every call",
        "",
        "Written from the service's own description. [Every field of each](reference/index.html), and the",
        "[OpenAPI document](openapi.json) itself. [api.md](api.md) explains them.",
        "",
        "| call | what it does | scope |",
        "| --- | --- | --- |",
    ]
    for path, methods in specification["paths"].items():
        for method, call in methods.items():
            scopes = [scope for choice in call.get("security", []) for scope in choice.get("bearer", [])]
            what = call.get("description", "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            rows.append(f"| `{method.upper()} {path}` | {what} | {', '.join(scopes) or 'open'} |")
    return "\n".join(rows) + "\n"
