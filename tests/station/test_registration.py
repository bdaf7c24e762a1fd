"""Registering at a server may be repeated, also after an answer was lost."""

from __future__ import annotations

import datetime
import threading
import time

import pytest
from prefect import get_client
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.events.actions import DoNothing

from flows.station import registration
from flows.station.servers import NOBODY

NAMES = ("racro: a silent run has crashed", "racro: a crashed run is resumed")


@pytest.mark.usefixtures("prefect_server")
def test_automations_are_there_once_whatever_was_there_before() -> None:
    trigger = EventTrigger(expect={"x"}, posture=Posture.Reactive, threshold=1, within=datetime.timedelta(0))
    with get_client(sync_client=True) as client:
        for _ in range(2):  # made twice, because the first answer was lost
            client.create_automation(AutomationCore(name=NAMES[0], trigger=trigger, actions=[DoNothing()]))
        for _ in range(2):
            registration.register_automations(client, 60)
            found = [automation for name in NAMES for automation in client.read_automations_by_name(name)]
            assert [automation.name for automation in found] == [*NAMES]
            assert "60 s" in found[0].description, "and it is brought up to date"


@pytest.mark.usefixtures("prefect_server")
def test_one_that_was_switched_off_stays_off() -> None:
    with get_client(sync_client=True) as client:
        registration.register_automations(client, 60)
        [known] = client.read_automations_by_name(NAMES[1])
        client.pause_automation(known.id)
        registration.register_automations(client, 90)
        [again] = client.read_automations_by_name(NAMES[1])
        assert again.enabled is False
        client.resume_automation(known.id)


@pytest.mark.usefixtures("prefect_server")
def test_several_that_register_at_once_end_with_each_automation_once() -> None:
    together, failed = threading.Barrier(4), list[Exception]()

    def register() -> None:
        with get_client(sync_client=True) as client:
            together.wait()
            try:
                registration.register_pool(client, "at-once")
                registration.register_automations(client, 60)
                registration.register_notifications(client, "https://example.invalid/hook")
                registration.register_notifications(client, NOBODY)
            except Exception as error:
                failed.append(error)

    with get_client(sync_client=True) as client:
        for _ in range(3):
            for known in [one for name in NAMES for one in client.read_automations_by_name(name)]:
                client.delete_automation(known.id)
            others = [threading.Thread(target=register) for _ in range(4)]
            for other in others:
                other.start()
            for other in others:
                other.join()
            found = [one.name for name in NAMES for one in client.read_automations_by_name(name)]
            assert not failed and found == [*NAMES]


@pytest.mark.usefixtures("prefect_server")
def test_changes_of_automations_do_not_stop_the_server_while_others_write() -> None:
    ended = threading.Event()

    def write(number: int) -> None:
        with get_client(sync_client=True) as client:
            for count in range(1000):
                if ended.is_set():
                    return
                client.create_concurrency_limit(tag=f"writer-{number}-{count}", concurrency_limit=1)

    others = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    began = time.monotonic()
    for other in others:
        other.start()
    with get_client(sync_client=True) as client:
        for within in range(60, 70):
            registration.register_automations(client, within)
    ended.set()
    for other in others:
        other.join()
    assert time.monotonic() - began < 55, "Prefect's own server waits for itself, 60 s each time"
