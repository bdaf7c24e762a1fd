"""Who is told of what: any URL that people have becomes a block of the right kind, and is a secret in it."""

from __future__ import annotations

import pytest
from prefect.blocks.notifications import AppriseNotificationBlock, CustomWebhookNotificationBlock, SlackWebhook

from flows.station import notifying, servers


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnopqrstuvwx", SlackWebhook),
        ("http://127.0.0.1:8080/hook?token=hush", CustomWebhookNotificationBlock),
        ("mailto://user:hush@mail.example.com?to=team@example.com", AppriseNotificationBlock),
    ],
)
def test_the_url_decides_what_sends_and_is_not_shown(url: str, kind: type) -> None:
    servers.check_notify(url)
    block = notifying.block(url)
    assert type(block) is kind and "hush" not in repr(block) and "abcdefgh" not in repr(block)


@pytest.mark.parametrize("url", ["", "team@example.com", "https://", "C:\\hooks", "http://a\nb"])
def test_what_is_no_url_is_one_line(url: str) -> None:
    with pytest.raises(servers.BadOption, match=r"--notify .*: give a URL"):
        servers.check_notify(url)


def test_nobody_is_an_answer() -> None:
    assert servers.check_notify(servers.NOBODY) == servers.NOBODY
