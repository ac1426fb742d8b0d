"""Who may see a page, what a browser may do with it, and which requests may change something."""

from __future__ import annotations

import hmac
import inspect
import re
import secrets
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

__all__ = ["HEADERS", "OF_A_FORM", "Authorize", "Tokens", "form_of", "is_allowed", "refuse_other_sites"]

Authorize: TypeAlias = "Callable[[Request], bool | Awaitable[bool]]"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""What each response has, errors included."""

OF_A_FORM = {"referrer-policy": "same-origin"}
"""What a page with a form has instead: with "no-referrer", browsers send `Origin: null` along with the form."""

COOKIE = "stopladder_form"
LONGEST_FORM = 1 << 14
"""Bytes."""


async def is_allowed(authorize: Authorize | None, request: Request) -> bool:
    """Returns whether somebody may see, and do, what a request asks for.

    Raises:
        TypeError: `authorize` has returned no bool, such as a user, or a response, which would be true.
    """
    if authorize is None:
        return True
    answer = authorize(request)
    if inspect.isawaitable(answer):
        answer = await answer
    if not isinstance(answer, bool):
        raise TypeError(f"authorize={authorize!r}: has returned {type(answer).__name__}; it must return True or False")
    return answer


def refuse_other_sites(request: Request) -> None:
    """Refuses a request that the page of another site has sent. A browser says so itself, in one of two headers.

    Over plain HTTP, other than to this machine, it has no `Sec-Fetch-Site`. `Origin` is compared without its scheme,
    which a proxy may have changed. A program that is no browser sends neither, and needs the form's token like all.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        same = site == "same-origin"
    elif origin is not None:
        same = urlsplit(origin).netloc == request.headers.get("host", "")
    else:
        same = True
    if not same:
        raise HTTPException(403, "This was sent by the page of another site.")


class Tokens:
    """Makes, for a browser that has a page of ours, what shows that a form comes from that page.

    A form has a token, which is made from a cookie and a secret of this process. Who can have a browser send a form has
    no cookie of it (SameSite), and could not read it; who could set one cannot make its token. Nothing is kept.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def cookie(self, request: Request) -> str:
        """Returns the cookie that a browser has, or is to get."""
        there = request.cookies.get(COOKIE, "")
        return there if re.fullmatch(r"[\w-]{43}", there, re.ASCII) else secrets.token_urlsafe(32)

    def token(self, cookie: str) -> str:
        """Returns what a form must have in the browser that has this cookie."""
        return hmac.digest(self._secret, cookie.encode(), "sha256").hex()

    def set_cookie(self, cookie: str, request: Request) -> str:
        """Returns the header that has a browser keep it until it is closed."""
        secure = "; Secure" if request.url.scheme == "https" else ""
        return f"{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/{secure}"

    def check(self, request: Request, form: Mapping[str, str]) -> None:
        """Refuses a form that does not come from a page of ours."""
        cookie = request.cookies.get(COOKIE, "")
        token = form.get("token", "")
        if not cookie or not hmac.compare_digest(self.token(cookie).encode(), token.encode(errors="replace")):
            raise HTTPException(403, "This form is too old, or not from this page. Go back, reload, and try again.")


async def form_of(request: Request) -> dict[str, str]:
    """Returns what a form has sent; of a field that comes twice the last."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Only a form of this page is taken.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            raise HTTPException(413, "This form is too long.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise HTTPException(400, "This form cannot be read.") from None
    return {name: values[-1] for name, values in fields.items()}
