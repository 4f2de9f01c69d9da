"""Removal of passwords and tokens in URLs from all output."""

from __future__ import annotations

import re

HIDDEN = "***"
# Names of query parameters with secret values.
SECRET_NAMES = (
    "password|passwd|pwd|pass|passphrase|sslpassword|token|access_?token|auth|authorization|bearer|secret|"
    "client_?secret|key|api_?key|access_?key|account_?key|sig|signature|credentials?|sas|jwt"
)
_URL = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,31}://)(?P<rest>[^\s\"'<>`]+)")
_USER = re.compile(r"(?P<user>[^:@/]*)(?P<password>:.*)?@(?P<host>[^@]*)", re.DOTALL)
_QUERY = re.compile(rf"(?P<name>[?&;#][A-Za-z0-9_.%-]*?(?:{SECRET_NAMES})=)[^&;#\s\"'<>`]*", re.IGNORECASE)
# user:password@host without a scheme, as addresses of Ray could be written.
_BARE = re.compile(r"(?<![\w/%])(?P<user>[\w.%+-]{1,64}):(?!//)[^\s@/:\"'<>`]+@(?=[\w\[])")
_NAME = re.compile(rf"(?:^|_)(?:{SECRET_NAMES})(?:$|_)", re.IGNORECASE)
WITHOUT_SERVER = ("sqlite", "file")  # schemes followed by a path, in which @ is an ordinary character


def without_secrets(text: str) -> str:
    """The text with *** for passwords in URLs, for users of web addresses, and for tokens among parameters."""
    text = _BARE.sub(rf"\g<user>:{HIDDEN}@", _URL.sub(_redacted, text))
    return _QUERY.sub(rf"\g<name>{HIDDEN}", text)  # libraries also print the part of a URL after its host


def has_secret(text: str) -> bool:
    """Whether a URL in the text contains a secret."""
    return without_secrets(text) != text


def names_secret(name: str) -> bool:
    """Whether an environment variable of this name contains a secret, such as MLFLOW_TRACKING_PASSWORD."""
    return _NAME.search(name) is not None


def _redacted(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"], found["rest"]
    kind = scheme.split(":")[0].split("+")[0].lower()
    user = None if kind in WITHOUT_SERVER else _USER.fullmatch(rest)
    if user is None:
        return scheme + rest
    if user["password"]:
        return f"{scheme}{user['user']}:{HIDDEN}@{user['host']}"
    shown = HIDDEN if kind.startswith("http") else user["user"]  # a token is often the only part before the @
    return f"{scheme}{shown}@{user['host']}"
