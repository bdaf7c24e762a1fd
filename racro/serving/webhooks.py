"""A webhook's signature, by which MLflow, which sends no API key, shows that it knows the key.

MLflow signs as Standard Webhooks (standardwebhooks.com) do, with other names of headers. Called by `racro.serving.api`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

SIGNATURE = "x-mlflow-signature"
LATEST = 300.0
"""Seconds for which a signature holds, so that nobody can send an old message again."""


def signed(headers: Mapping[str, str], body: bytes, key: str) -> bool:
    """Is this a message that was signed with the key a moment ago? `headers`: with names in lower case."""
    given, number, sent = (headers.get(name, "") for name in (SIGNATURE, "x-mlflow-delivery-id", "x-mlflow-timestamp"))
    if not (key and given and sent.isascii() and sent.isdigit() and abs(time.time() - int(sent)) <= LATEST):
        return False
    content = f"{number}.{sent}.".encode() + body
    right = base64.b64encode(hmac.new(key.encode(), content, hashlib.sha256).digest())
    return hmac.compare_digest(given.encode(), b"v1," + right)
