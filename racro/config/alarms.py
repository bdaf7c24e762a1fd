"""Recipe section `alarms`: signs that a training drifts, and whether it then goes on or stops (`racro.drift`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from racro.config.base import Config, Share


class Alarm(Config):
    """What all alarms have."""

    action: Literal["warn", "stop", "ignore"] = "warn"
    """warn: one line in log, report, summary.json and MLflow. stop: the run stops with this line. ignore: no alarm."""


class LengthAlarm(Alarm):
    """Texts grow, and answers do not get better: filler is rewarded."""

    rise: Annotated[float, Field(gt=0)] = 0.5
    """Growth of the mean length since the stage began, as a share of it."""
    gain: Annotated[float, Field(ge=0)] = 0.02
    """Smallest rise of the reward `answer` that excuses it; without that reward, of the sum."""


class DescriptionAlarm(Alarm):
    """Fewer captions describe an image, as the reward `describes` sees it: answers are smuggled into captions."""

    fall: Share = 0.1
    """Fall of their share since the stage began, from 0 to 1."""


class LeakAlarm(Alarm):
    """More captions announce an answer, where scenes are known (embedded world)."""

    rise: Share = 0.1
    """Rise of their share since the stage began, from 0 to 1."""


class EntropyAlarm(Alarm):
    """The policy writes the same thing every time, so that groups carry no signal any more."""

    left: Share = 0.1
    """Share of the entropy at the beginning of the stage below which too little is left."""


class GapAlarm(Alarm):
    """Engine and trainer compute different log-probs."""

    share: Annotated[float, Field(gt=0)] = 0.5
    """Share of `update.max_logprob_gap`, at which the run stops anyway."""


class KlAlarm(Alarm):
    """The policy is far from the reference of its KL."""

    nats: Annotated[float, Field(gt=0)] = 1.0
    """Largest mean KL per token."""


class Alarms(Config):
    """All of them. No part of the identity: they change no policy, they only say or stop."""

    window: PositiveInt = 3
    """Number of iterations over which is averaged: the first ones of a stage are compared with the last ones."""
    length: LengthAlarm = LengthAlarm()
    """Texts grow, and answers do not get better."""
    descriptions: DescriptionAlarm = DescriptionAlarm()
    """Fewer captions describe an image."""
    leaks: LeakAlarm = LeakAlarm()
    """More captions announce an answer (embedded world)."""
    entropy: EntropyAlarm = EntropyAlarm()
    """The policy's entropy collapses."""
    gap: GapAlarm = GapAlarm()
    """Engine and trainer differ."""
    kl: KlAlarm = KlAlarm()
    """The policy is far from where its stage began."""
