"""Pages for people: the start page, the API reference and the problem types. All of it is served from here."""

from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from ..errors import RequestError
from ..middleware import CONTENT_SECURITY_POLICY
from ..problems import PROBLEMS

__all__ = ["router"]

WEB = files("service") / "web"
SWAGGER = files("fastapi_offline") / "static"  # a packaged copy of Swagger UI: FastAPI's own page needs a CDN

ASSETS = {
    "app.js": (WEB, "text/javascript"),
    "docs.js": (WEB, "text/javascript"),
    "style.css": (WEB, "text/css"),
    "swagger-ui-bundle.js": (SWAGGER, "text/javascript"),
    "swagger-ui.css": (SWAGGER, "text/css"),
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def start() -> HTMLResponse:
    return HTMLResponse((WEB / "index.html").read_bytes())


@router.get("/docs")
def reference() -> HTMLResponse:
    # Swagger UI sets style attributes and draws icons from data: URLs; scripts stay restricted to ours.
    policy = CONTENT_SECURITY_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    policy = policy.replace("img-src 'self' blob:", "img-src 'self' data:")
    return HTMLResponse((WEB / "docs.html").read_bytes(), headers={"Content-Security-Policy": policy})


@router.get("/assets/{name}")
def asset(name: str) -> Response:
    if name not in ASSETS:
        raise RequestError("There is no such asset.", "not-found")
    folder, media_type = ASSETS[name]
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response((folder / name).read_bytes(), media_type=media_type, headers=headers)


@router.get("/problems/{slug}")
def problem(slug: Annotated[str, Path(description="Last part of a problem's `type`.")]) -> PlainTextResponse:
    if slug not in PROBLEMS:
        raise RequestError("There is no such problem type.", "not-found")
    found = PROBLEMS[slug]
    return PlainTextResponse(f"{found.title} ({found.status})\n\n{found.text}\n")
