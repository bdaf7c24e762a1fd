"""Who is told when a run fails, drifts or changes the champion: a notification block and automations.

Set by `racro up --notify URL` and `racro register --notify URL`. The URL may hold a password: it is kept in the block
alone, which Prefect encrypts.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import AppriseNotificationBlock, CustomWebhookNotificationBlock, SlackWebhook
from prefect.events.actions import SendNotification
from prefect.types import SecretDict
from pydantic import SecretStr

from tasks.recording import events

BLOCK = "racro-notify"
"""Name of the block."""
SLACK = ("hooks.slack.com", "hooks.slack-gov.com")
PEOPLE = "racro: tell people"
GIVEN_UP = "racro: tell people of a run that is given up"
NAMES = (PEOPLE, GIVEN_UP)
"""Of the automations."""


def block(url: str) -> NotificationBlock:
    """What sends a message to this URL: Slack, any other web address, or what Apprise knows (mailto://...)."""
    parts = urlsplit(url)
    if parts.hostname in SLACK:
        return SlackWebhook(url=SecretStr(url))
    if parts.scheme in ("http", "https"):
        content = {"text": "{{subject}}\n{{body}}", "subject": "{{subject}}", "body": "{{body}}"}
        return CustomWebhookNotificationBlock(
            name="racro", url="{{url}}", json_data=content, headers=None, cookies=None, secrets=SecretDict({"url": url})
        )
    return AppriseNotificationBlock(url=SecretStr(url))


def automations(url: str, starts: int, ours: dict[str, str | list[str]]) -> list[AutomationCore]:
    """Makes or renews the block, and says which automations use it.

    starts: how often a run is started at most. ours: what an event of one of our runs is related to.
    """
    made = block(url)
    made.save(BLOCK, overwrite=True)
    identity = made._block_document_id
    assert identity is not None
    run = "prefect.resource.id"
    return [
        AutomationCore(
            name=PEOPLE,
            description="A run failed, drifts, or has changed the champion.",
            trigger=EventTrigger(
                match={run: "racro.run.*"},
                expect={events.FAILED, events.DRIFT, events.CHAMPION},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                SendNotification(
                    block_document_id=identity,
                    subject="{{ event.event }}: {{ event.payload.run }}",
                    body="{{ event.payload.line }}",
                )
            ],
        ),
        AutomationCore(
            name=GIVEN_UP,
            description=f"It crashed at each of {starts} starts.",
            trigger=EventTrigger(
                match={run: "prefect.flow-run.*", "prefect.run-count": [str(starts)]},
                match_related=ours,
                expect={"prefect.flow-run.Crashed"},
                for_each={run},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                SendNotification(
                    block_document_id=identity,
                    subject="racro.failed: {{ flow_run.name }}",
                    body=f"The run crashed {starts} times and is not started again. {{{{ flow_run|ui_url }}}}",
                )
            ],
        ),
    ]
