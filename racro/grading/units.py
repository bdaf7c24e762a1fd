"""Units of measurement as people write them, in words, symbols or LaTeX: what they measure and how much, by pint.

A text may have several readings: "C" is a coulomb or a degree Celsius. pint is loaded when the first possible unit is
met, and its registry is built once.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

from racro.grading.unit_names import CURRENCIES, FEW, METRIC, NAMES, NEVER, OTHER, PARTS, RARE, SINGLE, THINGS

if TYPE_CHECKING:
    import pint


class Unit(NamedTuple):
    """One reading of a unit: what it measures, by powers of pint's root units, and how many of those it is."""

    measures: frozenset[tuple[str, int]]
    factor: float
    offset: float = 0.0
    """Where the zero of a thermometer's scale is, in kelvin."""


Readings = tuple[Unit, ...]
"""All that a text may mean as a unit; empty where it is none."""

_lock = threading.RLock()
COMBINATIONS, LONGEST = 16, 6
"""Readings of a product that are looked at, and units in one."""


@lru_cache(1)
def _registry() -> pint.UnitRegistry:
    import pint

    registry: pint.UnitRegistry = pint.UnitRegistry()
    for name in CURRENCIES:
        registry.define(f"{name} = [{name}]")
    for name, whole in PARTS.items():
        registry.define(f"{name} = {whole} / 100")
    registry.define("cycles_per_minute = hertz / 60")
    registry.define("gauss_of_field = 1e-4 * tesla")  # pint's own is of another system of units
    return registry


@lru_cache(1)
def _aliases() -> dict[str, tuple[str, ...]]:
    return {name: tuple(meant.split()) for meant, names in NAMES.items() for name in names.split()}


@lru_cache(4096)
def _word(word: str) -> Readings:
    """What a single word or symbol may mean."""
    with _lock:
        return tuple(map(_defined, _aliases().get(word) or _parsed(word)))


def _parsed(word: str) -> list[str]:
    """The units from the list that pint reads in a word, by pint's names; those without a prefix before the others."""
    if not word.isidentifier() or (len(word) == 1 and word not in SINGLE) or word in THINGS:
        return []
    found = []
    for prefix, name, _ in _registry().parse_unit_name(word):
        written_out = bool(prefix) and word.startswith(prefix)
        if prefix in NEVER or (prefix in RARE and name not in RARE[prefix] and not written_out):
            continue
        if prefix and name in FEW and prefix not in FEW[name]:
            continue
        if name in METRIC or (name in OTHER and not prefix):
            found.append((bool(prefix), prefix + name))
    return [name for prefixed, name in found if prefixed == min(found)[0]]


def _defined(name: str) -> Unit:
    one, zero = (_registry().Quantity(value, name).to_root_units() for value in (1.0, 0.0))
    powers = {root: round(cast(float, power)) for root, power in one.unit_items() if root != "count"}
    return Unit(frozenset(powers.items()), one.magnitude - zero.magnitude, zero.magnitude)


_REWRITES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:mu|micro)(?![a-zA-Z])\s?", "µ"),
        (r"\\(?:Omega|ohm)(?![a-zA-Z])", "Ω"),
        (r"\\(?:AA|angstrom)(?![a-zA-Z])|Å", "angstrom"),
        (r"\\(?:degree)?[cC]elsius(?![a-zA-Z])", "°C"),
        (r"\\(?:cdot|times)(?![a-zA-Z])", " "),
        (r"\\(?:rm|mathrm|text|bf|it|thinspace|quad|,|;|:|!)(?![a-zA-Z])|[{}~\\]", " "),
        (r"(?:°|\bdeg(?:ree)?s?\b)\s?(?:([CFK])\b|(?:([CFKcfk])(?:elsius|ahrenheit|elvin|entigrade)\b))", r" °\1\2 "),
        (r"\b(?:per|每)\b|每", "/"),
        (r"\bcycles?\s?/\s?s(?:ec(?:ond)?)?\b", "Hz"),
        (r"\br(?=\s?/\s?(?:min|s)\b)", "rev"),
        (r"''", '"'),
        (r"\bsq(?:uare)?\b\.?|平方", " square "),
        (r"\bcu(?:bic)?\b\.?|立方", " cubic "),
        (r"\bsquared\b", "^2"),
        (r"\bcubed\b", "^3"),
        (r"[·×*⋅]|(?<=[A-Za-z])[-.](?=[A-Za-z])|(?<=[A-Za-z])\.", " "),
        (r"[()\[\]]", " "),
        (r"\b(light|nautical|fluid|electron|astronomical)[ -](year|mile|ounce|volt|unit)", r"\1_\2"),
        (r"\bmm Hg\b", "mmHg"),
        (r"\bfl ?oz\b", "fluid_ounce"),
        (r"\b(?:ft|foot)[ -]?(?:lbs?|lbf|pounds?)\b", "foot_pound"),
        (r"([µμ])\s+(?=[A-Za-zΩ])|\b([kMGm])\s+(?=Ω)", r"\1\2"),
    )
)
_TERM = re.compile(
    r"\s*(?:(/)|(square|cubic)\b|(°[CFKcfk]?|[$€£¥₹¢]|['\"](?!\s?\d)|[A-Za-zµμΩ_]+|[\u4e00-\u9fff]+)(?:\s?\^\s?([-+]?\d)|([-+]?\d))?(?![\d.]))\s*"
)
_HEAD = re.compile(r"([A-Za-z]+)(?: |$)")
_BEGINNINGS = (
    "per deg degs degree degrees cycle cycles r sq square cu cubic squared cubed light nautical fluid electron "
    "astronomical mm fl ft foot k m g"
)
_REWRITTEN = frozenset(_BEGINNINGS.split())
"""Words that begin something that `_REWRITES` changes."""
_POWERS = {"square": 2, "cubic": 3}
_SECONDS = ("s", "sec", "second", "seconds")
_SYMBOLS = re.compile(r"k?N|[kM]?[JWV]|m?A|k?Pa|[CTmshg]")


@lru_cache(4096)
def unit(text: str) -> Readings:
    """What a text may mean as a unit: "cm", "square meters", "m/s^2", "m s^{-1}", "J/(kg K)", "miles per hour".

    What stands behind "/" is below the line until the next "/". Empty where a part is no unit.
    """
    head = _HEAD.match(text)
    if head and head[1].lower() not in _REWRITTEN and not _term(head[1], 1):
        return ()  # most texts
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    found: list[Readings] = []
    at, sign, power = 0, 1, 1
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None or len(found) > LONGEST:
            return ()
        at = term.end()
        if term[1]:
            sign = -1
        elif term[2]:
            power = _POWERS[term[2]]
        else:
            found.append(_term(term[3], sign * power * int(term[4] or term[5] or 1)))
            power = 1
    if not found or not all(found) or power != 1:
        return ()
    product = _product(found)
    if text.strip(" /^-0123456789") in _SECONDS:  # "1/s" of turning
        product += tuple(Unit(one.measures | {("radian", 1)}, one.factor) for one in product)
    return product


@lru_cache(4096)
def _term(word: str, power: int) -> Readings:
    """A word raised to a power: one unit, or several that are written as one word ("Nm", "kWs")."""
    parts = _SYMBOLS.findall(word)
    joined = 1 < len(parts) <= 3 and "".join(parts) == word and not word.islower()
    spellings = (word,) if joined or len(word) == 1 else (word, word[0].lower() + word[1:], word.lower())
    meant = next(filter(None, map(_word, spellings)), ())
    readings = tuple(_raised(reading, power) for reading in meant)
    if word == "ms" and power < 0:  # of speeds rather than of milliseconds
        readings += _product([_word("m"), _term("s", power)])
    if joined and not readings:
        sign = 1 if power > 0 else -1
        return _product([*(_term(part, sign) for part in parts[:-1]), _term(parts[-1], power)])
    return readings


def _raised(reading: Unit, power: int) -> Unit:
    if power == 1:
        return reading
    return Unit(frozenset((name, times * power) for name, times in reading.measures), reading.factor**power)


def _product(terms: list[Readings]) -> Readings:
    """All that a product may mean. A scale has no zero in it."""
    if len(terms) == 1:
        return terms[0]
    found = []
    for choice in itertools.islice(itertools.product(*terms), COMBINATIONS):
        powers: dict[str, int] = {}
        for name, times in itertools.chain.from_iterable(reading.measures for reading in choice):
            powers[name] = powers.get(name, 0) + times
        measures = frozenset((name, times) for name, times in powers.items() if times)
        found.append(Unit(measures, math.prod(reading.factor for reading in choice)))
    return tuple(found)


_NAMED_FOR_PEOPLE = re.compile(r"[kmgtunpµ]?(?:hz|pa|ev|wh)|[kmgunpµ](?:[wjvaf]|ah)", re.IGNORECASE)


@lru_cache(4096)
def recased(word: str) -> Readings:
    """What the symbol of a unit means whose capitals are wrong: "khz", "KPA"; of "mw" milliwatts and megawatts.

    Only behind a number alone: in an expression "mv" is a product.
    """
    if not _NAMED_FOR_PEOPLE.fullmatch(word):
        return ()
    with _lock:
        spellings = map("".join, itertools.product(*((letter.lower(), letter.upper()) for letter in word)))
        found = {spelling: _parsed(spelling) for spelling in spellings}
    meant = [names for spelling, names in found.items() if names and (word.islower() or spelling[0] == word[0])]
    return tuple(_defined(name) for names in meant or found.values() for name in names)


class Converted(NamedTuple):
    """A value in another unit."""

    value: Fraction
    rounding: Fraction
    """How far off it may be, relatively: factors like that of degrees and radians have no end."""


ENDLESS = Fraction(1, 10**5)
_SHORT = 6


def converted(value: Fraction, theirs: Readings, ours: Readings) -> list[Converted]:
    """A value in our unit, once for all readings that measure the same; empty where none do."""
    found = []
    for scale in _scales(theirs, ours):
        found.append(Converted(value * scale.factor + scale.shift, scale.rounding))
    return found


class _Scale(NamedTuple):
    factor: Fraction
    shift: Fraction
    rounding: Fraction


@lru_cache(4096)
def _scales(theirs: Readings, ours: Readings) -> list[_Scale]:
    """How to convert, for all pairs of readings that measure the same."""
    found = []
    for their, our in itertools.product(theirs, ours):
        if their.measures == our.measures:
            factor, ends = _factor(their.factor / our.factor)
            shift = Fraction((their.offset - our.offset) / our.factor).limit_denominator(1000)
            found.append(_Scale(factor, shift, Fraction(0) if ends else ENDLESS))
    return found


def _factor(ratio: float) -> tuple[Fraction, bool]:
    """A factor without what floats add to it, and whether it, or one over it, has few digits."""
    there, back = f"{ratio:.12g}", f"{1 / ratio:.12g}"
    if len(there.partition("e")[0].replace(".", "").strip("0")) <= _SHORT:
        return Fraction(there), True
    if len(back.partition("e")[0].replace(".", "").strip("0")) <= _SHORT:
        return 1 / Fraction(back), True
    return Fraction(ratio), False
