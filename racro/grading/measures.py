"""The unit that a question asks in: "in cm?", "in meters per second", "how many minutes".

Only where the asking sentence says so plainly; the gold answer is then compared as if it had that unit. Called by
`racro.grading.target`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from racro.grading.plain import clean
from racro.grading.units import unit

_SENTENCE = re.compile(r"(?<=[.?!])\s|\n")
_ASKS = re.compile(r"\b(?:what|how|which|find|calculate|compute|determine|give|estimate|express)\b", re.IGNORECASE)
_IN = re.compile(
    r"\bin (?:units of )?\(?((?:(?:square|cubic) )?[A-Za-z°µμΩ][\w°µμΩ^/·]{0,20}"
    r"(?: (?:per|C|F|Celsius|Fahrenheit|squared|cubed|second|minute|hour|meter|hours?|square|cubic)){0,4})\)?"
    r"(?:[?.:]*$|, (?:rounded|to|correct)\b| (?:rounded|to the|correct to)\b)"
)
_HOW_MANY = re.compile(r"\bhow (?:many|much time in) ((?:(?:square|cubic) )?[a-z]{4,12})\b(?! (?:and|or|of|per)\b)", re.IGNORECASE)
_TIME_IN = re.compile(r"\bhow (?:much time|long|far|high|tall|wide|heavy|fast)(?:,)? in ([a-z]{4,12})\b(?! (?:and|or)\b)", re.IGNORECASE)
_PLAIN = frozenset("kelvin celsius fahrenheit hertz feet kelvins mph kph rpm ohms volts".split())
_SYMBOLS = frozenset(
    "cm mm km nm dm kg mg kHz Hz MHz GHz kPa Pa MPa kJ MJ kW MW kN kV mV mA eV keV MeV ms ns mL ml Ω kΩ µm μm °C °F".split()
)
_OTHER = frozenset("bars cups turns times points tons yards feet degrees pounds ounces".split())
"""Words that are counted as things more often than they measure."""


@lru_cache(1024)
def asked_unit(question: str) -> str | None:
    """The unit in which a question wants its answer; None where it does not say, or says two."""
    if "in " not in question and "ow many" not in question:
        return None
    asking = [part.strip() for part in _SENTENCE.split(question.partition("\nChoices")[0]) if _ASKS.search(part)]
    if not asking:
        return None
    counted = _HOW_MANY.search(asking[-1])
    if counted and counted[1].lower() not in _OTHER and counted[1][-1:] == "s" and unit(counted[1]):
        return counted[1]
    if counted is None and (found := _IN.search(asking[-1]) or _TIME_IN.search(asking[-1])) and _is_unit(found[1]):
        return found[1]
    return None


def _is_unit(text: str) -> bool:
    last = text.rpartition(" ")[2]
    plain = text.lower() in _PLAIN or text in _SYMBOLS or "/" in text or "^" in text or " " in text
    plural = text.endswith("s") and len(text) > 4 and last not in _OTHER - {"degrees", "feet", "pounds"}
    return (plain or plural) and bool(unit(clean(text)))
