"""`/`: what runs here and where to go on, as a page for browsers and as JSON for programs."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response

from steersman import __version__
from steersman.api.keys import bearer
from steersman.keys.ring import Keys
from steersman.plan import Planner

_LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "models": "/v1/models",
    "capabilities": "/v1/control/capabilities",
    "profiles": "/v1/control/profiles",
    "metrics": "/metrics",
    "health": "/health",
}
_LOCKED = "This server wants an API key: Authorization: Bearer KEY"
_HEADERS = {
    "Cache-Control": "no-store",
    "Vary": "Accept, Authorization",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
_STYLE = (
    ":root{color-scheme:light dark;font-family:system-ui,sans-serif;line-height:1.5}"
    "body{max-width:46rem;margin:3rem auto;padding:0 1rem}"
    "pre{padding:.8rem;overflow:auto;border:1px solid;border-radius:.3rem}"
)


def router(planner: Planner, keys: Keys) -> APIRouter:
    """The route of the page.

    Args:
        planner: Knows model, methods and profiles.
        keys: The server's keys. Where requests need one, the page says to those without only that
            a server is here, as `/health` does.

    """
    routes = APIRouter()

    @routes.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def root(request: Request) -> Response:
        given = bearer(request.headers)
        known = not keys.closed or (given is not None and keys.find(given) is not None)
        content = {
            "server": "steersman",
            **(_facts(planner) if known else {"message": _LOCKED}),
            "links": _links(request),
        }
        if _wants_html(request.headers):
            return HTMLResponse(_page(content, str(request.base_url)), headers=_HEADERS)
        return JSONResponse(content, headers=_HEADERS)

    return routes


def _facts(planner: Planner) -> dict[str, Any]:
    capabilities = planner.capabilities
    return {
        "version": __version__,
        "models": list(capabilities.model.names),
        "architecture": capabilities.model.architecture,
        "max_model_len": capabilities.model.max_model_len,
        "thinks": capabilities.thinking_tokens is not None,
        "controls": {part: names for part, names in capabilities.methods if names},
        "profiles": {name: one.description for name, one in planner.profiles.items()},
    }


def _links(request: Request) -> dict[str, str]:
    """The paths that this server has, below the one that a proxy put it under."""
    app, prefix = request.app, request.scope.get("root_path", "")
    missing = {
        path for path, url in (("docs", app.docs_url), ("openapi", app.openapi_url)) if not url
    }
    return {name: prefix + path for name, path in _LINKS.items() if name not in missing}


def _wants_html(headers: Headers) -> bool:
    """Tell whether a page is more welcome than JSON; who takes anything gets JSON."""
    accepted = ",".join(headers.getlist("accept"))
    return _welcome(accepted, "text", "html") > _welcome(accepted, "application", "json")


def _welcome(accepted: str, kind: str, subtype: str) -> tuple[float, int]:
    """Rank a media type by an `Accept` header: its weight, and how exactly it is named."""
    ranges = {f"{kind}/{subtype}": 3, f"{kind}/*": 2, "*/*": 1}
    best, weight = 0, 0.0
    for part in accepted.split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        if ranges.get(name, 0) > best:
            best, weight = ranges[name], _weight(parameters)
    return weight, best


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _page(content: Mapping[str, Any], url: str) -> str:
    locked = content.get("message")
    about = f"<p>{escape(locked)}</p>" if locked else _about(content, url)
    links = " · ".join(_link(name, path) for name, path in content["links"].items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Steersman</title>'
        f"<style>{_STYLE}</style></head><body><h1>Steersman</h1>"
        f"{about}<p>{links}</p>"
        "</body></html>"
    )


def _about(content: Mapping[str, Any], url: str) -> str:
    model = content["models"][0]
    controls = "".join(
        f"<li><code>{escape(part)}</code>: {escape(', '.join(names))}</li>"
        for part, names in content["controls"].items()
    )
    profiles = "".join(
        f"<li><code>{escape(f'{model}:{name}')}</code> {escape(description)}</li>"
        for name, description in content["profiles"].items()
    )
    names, thinks = (
        ", ".join(content["models"]),
        "thinks" if content["thinks"] else "does not think",
    )
    kind = f"{content['architecture']}, {content['max_model_len']} tokens, {thinks}"
    return (
        f"<p>Version {escape(content['version'])}, with <b>{escape(names)}</b>: {escape(kind)}.</p>"
        f"<pre>{escape(_example(model, url))}</pre>"
        f"<h2>Controls</h2><ul>{controls}</ul>"
        + (f"<h2>Profiles</h2><ul>{profiles}</ul>" if profiles else "")
    )


def _example(model: str, url: str) -> str:
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return f"curl {url}v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"


def _link(name: str, path: str) -> str:
    return f'<a href="{escape(path)}">{escape(name)}</a>'
