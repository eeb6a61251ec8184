"""Pages for people: the start page, the API reference and the problem types. All of it is served from here."""

from importlib.resources import files
from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from ..errors import RequestError
from ..middleware import CONTENT_SECURITY_POLICY
from ..problems import PROBLEMS

__all__ = ["router"]

WEB = files("service") / "web"
SWAGGER = files("fastapi_offline") / "static"  # a packaged copy of Swagger UI: FastAPI's own page needs a CDN

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ASSETS = {
    "swagger-ui-bundle.js": SWAGGER / "swagger-ui-bundle.js",
    "swagger-ui.css": SWAGGER / "swagger-ui.css",
    **{file.name: file for file in WEB.iterdir() if PurePath(file.name).suffix in MEDIA_TYPES},
    **{f"modules/{file.name}": file for file in (WEB / "modules").iterdir() if file.name.endswith(".js")},
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def start() -> HTMLResponse:
    return HTMLResponse((WEB / "index.html").read_bytes())


@router.get("/operations")
def operations_page() -> HTMLResponse:
    return HTMLResponse((WEB / "operations.html").read_bytes())


@router.get("/docs")
def reference() -> HTMLResponse:
    # Swagger UI sets style attributes and draws icons from data: URLs; scripts stay restricted to ours.
    policy = CONTENT_SECURITY_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    policy = policy.replace("img-src 'self' blob:", "img-src 'self' data:")
    return HTMLResponse((WEB / "docs.html").read_bytes(), headers={"Content-Security-Policy": policy})


@router.get("/assets/{name:path}")
def asset(name: str) -> Response:
    if name not in ASSETS:
        raise RequestError("There is no such asset.", "not-found")
    # Asked for again at every visit: modules of two releases do not fit together.
    headers = {"Cache-Control": "no-cache"}
    return Response(ASSETS[name].read_bytes(), media_type=MEDIA_TYPES[PurePath(name).suffix], headers=headers)


@router.get("/problems/{slug}")
def problem(slug: Annotated[str, Path(description="Last part of a problem's `type`.")]) -> PlainTextResponse:
    if slug not in PROBLEMS:
        raise RequestError("There is no such problem type.", "not-found")
    found = PROBLEMS[slug]
    return PlainTextResponse(f"{found.title} ({found.status})\n\n{found.text}\n")
