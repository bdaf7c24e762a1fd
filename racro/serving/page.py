"""The web page: an image and a question, and the answer as it is written. Needs the extra `serve` (Gradio).

It asks where the API asks (`racro.serving.service`) and shares its port. Nothing on it comes from elsewhere: fonts are
the system's, and a Content-Security-Policy keeps the browser from asking anyone but this server.
"""

from __future__ import annotations

import atexit
import hmac
import os
import shutil
import tempfile
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from racro.serving.panes import Content, Panes
from racro.serving.service import Service
from racro.serving.visit import Visit
from racro.serving.votes import Votes

STYLE = Path(__file__).with_name("page.css")
HEADERS = {
    # Gradio writes scripts and styles into the page, and compiles templates in it.
    "Content-Security-Policy": (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")


class Guarded:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, guarded)


def mount(app: FastAPI, service: Service, votes: Votes, content: Content, key: str = "") -> None:
    """Put the page at `/`. `key`: visitors log in with it as their password; empty: without.

    Raises ModuleNotFoundError where Gradio is not installed.
    """
    folder = tempfile.mkdtemp(prefix="racro-page-")  # its name is in the page; it must not tell where we run
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    def login(name: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), key.encode())

    app.add_middleware(Guarded)
    gradio.mount_gradio_app(
        app,
        Panes(Visit(service), votes, content, Path(folder)).blocks(),
        path="/",
        auth=login if key else None,
        auth_message="Any name; the password is the API key.",
        show_error=False,
        max_file_size=service.limits.image,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        theme=gradio.themes.Base(
            primary_hue="blue",
            neutral_hue="slate",
            radius_size="lg",
            font=FONTS,
            font_mono=("ui-monospace", "monospace"),
        ),
        css=STYLE.read_text(encoding="utf-8"),
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
