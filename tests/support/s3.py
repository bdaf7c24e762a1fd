"""A real S3 API for tests: moto's server in a process of its own, which checks keys and signatures as S3 does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import boto3
import httpx
import pytest
import s3fs

from tests.support.ports import reserve

BUCKET = "bucket"
REGION = "us-east-1"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class Store:
    """A server with one bucket and one user who may do everything."""

    url: str
    key: str
    secret: str

    def environment(self, url: str | None = None) -> dict[str, str]:
        """What a user of the store sets; `url`: of what stands before it."""
        return {
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Key -> content of everything that lies in the bucket."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def client(self):  # type: ignore[no-untyped-def]  # boto3 makes its classes as it runs
        """boto3's own client, with the user's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=REGION,
        )


@contextlib.contextmanager
def served() -> Iterator[Store]:
    """A store for as long as the context lasts."""
    port = reserve()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(server, url)
        store = Store(url, *_user(url))
        store.client().create_bucket(Bucket=BUCKET)
        yield store
    finally:
        server.terminate()
        server.wait(10)


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, "the S3 server ended"
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/moto-api/", timeout=2)
            return
        time.sleep(0.05)
    raise TimeoutError("the S3 server did not answer within a minute")


def _user(url: str) -> tuple[str, str]:
    """Keys of a new user; from then on the server lets nobody in without."""
    anybody: Mapping[str, str] = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": REGION}
    client = boto3.client("iam", endpoint_url=url, **anybody)
    client.create_user(UserName="racro")
    client.put_user_policy(UserName="racro", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
    made = client.create_access_key(UserName="racro")["AccessKey"]
    httpx.post(f"{url}/moto-api/reset-auth", content=b"0").raise_for_status()
    return made["AccessKeyId"], made["SecretAccessKey"]


@contextlib.contextmanager
def used(store: Store, url: str | None = None, **more: str) -> Iterator[None]:
    """This process uses the store; `url`: by way of a proxy before it. Clients that know another one are forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (store.environment(url) | more).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield
    s3fs.S3FileSystem.clear_instance_cache()


@contextlib.contextmanager
def contexts(many: Iterable[contextlib.AbstractContextManager[object]]) -> Iterator[None]:
    """All of them at once."""
    with contextlib.ExitStack() as stack:
        for one in many:
            stack.enter_context(one)
        yield
