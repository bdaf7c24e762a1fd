"""The unit that a question asks in: "in cm?", "in meters per second", "how many minutes".

Only where the asking sentence says so plainly; the gold answer is then compared as if it had that unit. Called by
`racro.grading.target` and, for words that are counted too, by `racro.grading.expressions`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from racro.grading.plain import clean
from racro.grading.units import unit

_SENTENCE = re.compile(r"(?<=[.?!])\s|\n")
_ASKS = re.compile(r"\b(?:what|how|which|find|calculate|compute|determine|give|estimate|express)\b", re.IGNORECASE)
_SHAPE = r"(?:(?:square|cubic) )?"
_GO_ON = r"\b(?! (?:and|or|of|per)\b)"
_IN = re.compile(
    rf"\bin (?:units of )?\(?({_SHAPE}[A-Za-z°µμΩ][\w°µμΩ^/·]{{0,20}}"
    r"(?: (?:per|C|F|Celsius|Fahrenheit|squared|cubed|second|minute|hours?|meter|square|cubic)){0,4})\)?"
    r"(?:[?.:]*$|,? (?:rounded|correct to|to the)\b)"
)
_HOW_MANY = re.compile(rf"\bhow many ({_SHAPE}[a-z]{{4,12}}){_GO_ON}", re.IGNORECASE)
_HOW_MUCH_IN = re.compile(
    rf"\bhow (?:much time|long|far|high|tall|wide|heavy|fast),? in ({_SHAPE}[a-z]{{4,12}}){_GO_ON}", re.IGNORECASE
)
_PLAIN = frozenset(["kelvin", "celsius", "fahrenheit", "hertz", "feet", "mph", "kph", "rpm", "ohms"])
_SHORT = (
    "cm mm km nm dm kg mg kHz Hz MHz GHz kPa Pa MPa kJ MJ kW MW kN kV mV mA eV keV MeV ms ns mL ml Ω kΩ µm μm °C °F"
)
_SYMBOLS = frozenset(_SHORT.split())
_LONE = {
    **{
        "N": "forces? weights? tension friction thrust",
        "J": "energy work heat",
        "W": "power",
        "V": "voltage potential emf",
    },
    **{"A": "currents?", "K": "temperatures?", "C": "charges?", "s": "times? period duration", "h": "times? duration"},
    **{"m": "lengths? distances? heights? widths? depths? radius displacement", "g": "mass(?:es)?"},
}
"""Units of one letter, and the quantities that they are asked for by."""
_COUNTED = "bars cups turns times points tons yards feet degrees pounds ounces"
_THINGS = frozenset(_COUNTED.split())
"""Words that are counted as things more often than they measure."""
_ANGLE = re.compile(
    r"\b(?:angles?|rotat\w+|arcs?|sectors?|slopes?|inclin\w+|bearing|triangles?|polygons?|quadrilaterals?|parallelograms?"
    r"|latitude|longitude|vertex|vertices|rays?|bisect\w*)\b|\\angle|[∠△▵]|角",
    re.IGNORECASE,
)
_HEAT = re.compile(
    r"\b(?:temperatures?|celsius|centigrade|fahrenheit|kelvin|thermomet\w+|heat\w*|hot\w*|cold\w*|warm\w*|cool\w*"
    r"|boil\w*|freez\w*|melt\w*|weather)\b|°[CF]|温",
    re.IGNORECASE,
)


@lru_cache(1024)
def asked_unit(question: str) -> str | None:
    """The unit in which a question wants its answer; None where it does not say."""
    if "in " not in question and "ow many" not in question:
        return None
    asking = [part.strip() for part in _SENTENCE.split(question.partition("\nChoices")[0]) if _ASKS.search(part)]
    if not asking:
        return None
    if counted := _HOW_MANY.search(asking[-1]):
        measure = counted[1].lower()
        return measure if measure not in _THINGS and measure.endswith("s") and unit(measure) else None
    found = _IN.search(asking[-1]) or _HOW_MUCH_IN.search(asking[-1])
    return found[1] if found and (_is_unit(found[1]) or _measures(found[1], asking[-1][: found.start()])) else None


def _measures(letter: str, asked: str) -> bool:
    """Is a lone letter a unit of what is asked for: the N of "What is the force in N?"?"""
    names = _LONE.get(letter, "").replace(" ", "|")
    return bool(names) and re.search(rf"\b(?:{names})\b", asked, re.IGNORECASE) is not None


@lru_cache(1024)
def counted_unit(question: str) -> str | None:
    """The unit that a question may count in, "how many pounds"; it counts where an answer names one of its kind."""
    counted = _HOW_MANY.search(question.partition("\nChoices")[0]) if "ow many" in question else None
    return counted[1].lower() if counted and counted[1].lower() in _THINGS else None


ANGLE = "arcdeg"
"""Degrees that are of no temperature."""


@lru_cache(1024)
def asks_for_angle(question: str) -> bool:
    """Is a question about angles and not about heat, so that its degrees are those of an angle?"""
    return _ANGLE.search(question) is not None and _HEAT.search(question) is None


def _is_unit(text: str) -> bool:
    """Is a text a unit, and no other word: neither "second" nor a letter?"""
    plain = text.lower() in _PLAIN or text in _SYMBOLS or any(sign in text for sign in "/^ ")
    plural = text.endswith("s") and len(text) > 4 and text not in _THINGS - {"degrees", "pounds"}
    return (plain or plural) and bool(unit(clean(text)))
