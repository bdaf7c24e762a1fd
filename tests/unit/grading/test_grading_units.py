"""Units: a value converted by pint's own factor is the same answer, another unit or prefix is not."""

from __future__ import annotations

import subprocess
import sys

import pint
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from racro.grading import equal, grade
from racro.grading.units import unit
from racro.schema import Gold, Verdict

REGISTRY = pint.UnitRegistry()
FAMILIES = (
    ("m", "cm", "mm", "km", "µm", "nm", "inch", "foot", "mile"),
    ("g", "kg", "mg", "pound"),
    ("s", "ms", "minute", "hour", "day"),
    ("Hz", "kHz", "MHz", "GHz"),
    ("Pa", "kPa", "MPa", "bar", "atm"),
    ("N", "kN", "mN"),
    ("J", "kJ", "MJ", "kWh", "cal", "kcal", "eV"),
    ("W", "kW", "MW"),
    ("V", "mV", "kV"),
    ("A", "mA", "µA"),
    ("ohm", "kiloohm", "megaohm"),
    ("m/s", "km/h", "mile/hour", "cm/s"),
    ("byte", "kilobyte", "megabyte", "gigabyte"),
    ("L", "mL", "m^3", "cm^3"),
    ("m^2", "cm^2", "km^2"),
    ("degC", "kelvin", "degF"),
    ("degree", "radian"),
)
families = st.sampled_from(FAMILIES)
dresses = st.sampled_from(["{} {}", r"{}\ \text{{{}}}", r"{}\,\mathrm{{{}}}", "{}{}", "**{} {}**", "${}$ {}", "{} {}."])
values = st.decimals(1, 1000, places=2, allow_nan=False).map(float)


@settings(deadline=None)
@given(st.data(), families, values, dresses)
def test_a_converted_value_is_the_same_answer(
    data: st.DataObject, family: tuple[str, ...], value: float, dress: str
) -> None:
    ours, theirs = data.draw(st.sampled_from(family)), data.draw(st.sampled_from(family))
    there = float(REGISTRY.Quantity(value, ours).to(theirs).magnitude)
    assume(abs(there) > 1e-25)
    gold = Gold(f"{value} {ours}", "float")
    assert equal(f"{there:.10g} {theirs}".replace("e-0", "e-").replace("e+0", "e"), gold), (there, theirs)
    assert equal(dress.format(f"{value}", ours), gold)
    if ours != theirs and abs(there - value) > 0.1 * value:
        assert not equal(f"{value} {theirs}", gold), "the same number in another unit"
        assert not equal(f"{there * 1.1:.10g} {theirs}", gold), "another number"


@settings(deadline=None)
@given(families, families, st.integers(1, 10**6))
def test_another_dimension_is_never_the_same(one: tuple[str, ...], other: tuple[str, ...], value: int) -> None:
    assume(one is not other)
    ours, theirs = unit(one[0]), unit(other[0])
    assert ours and theirs
    if {reading.measures for reading in ours}.isdisjoint(reading.measures for reading in theirs):
        assert not equal(f"{value} {other[0]}", Gold(f"{value} {one[0]}", "integer"))


@given(families, st.integers(-(10**6), 10**6))
def test_a_unit_may_be_left_out_or_added(family: tuple[str, ...], value: int) -> None:
    for name in family:
        assert equal(f"{value}", Gold(f"{value} {name}", "integer"))
        assert equal(f"{value} {name}", Gold(f"{value}", "integer"))
        assert not equal(f"{value + 1} {name}", Gold(f"{value}", "integer"))


@pytest.mark.parametrize(("ours", "theirs"), [(p, q) for p in "mkMGnµ" for q in ("", *"mkMGnµ") if p != q])
@pytest.mark.parametrize("name", ["Hz", "Pa", "W", "V", "s", "m"])
def test_another_prefix_is_wrong_wherever_the_answer_stands(name: str, ours: str, theirs: str) -> None:
    gold = Gold(f"20 {ours}{name}", "integer")
    for form in ("\\boxed{{{}}}", "The answer is {}.", "So it is {}.", "<answer>{}</answer>"):
        assert grade(form.format(f"20 {theirs}{name}"), "stop", gold).verdict is Verdict.WRONG
        assert grade(form.format(f"20 {ours}{name}"), "stop", gold).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    "text", [*"abceiknxy", "in total", "red", "apples", "points", "hand", "pole", "and", "at", "am"]
)
def test_a_variable_or_a_word_is_no_unit(text: str) -> None:
    assert not unit(text)


@pytest.mark.parametrize(
    ("gold", "found", "right"),
    [
        ("2s + 3x", "3x + 2s", True),
        ("2s + 3x", "3x + 2", False),
        ("5m", "m*5", True),
        ("5h", "5", False),
        ("A + 2B", "2B + A", True),
        (r"\frac{1}{2}mv^2", r"\frac{m v^2}{2}", True),
        (r"2\sqrt{3}\text{ cm}", r"20\sqrt{3}\text{ mm}", True),
        (r"2\sqrt{3}\text{ cm}", r"2\sqrt{3}\text{ mm}", False),
    ],
)
def test_letters_of_an_expression_are_variables(gold: str, found: str, right: bool) -> None:
    assert equal(found, Gold(gold, "expression")) is right


def test_thermometers_have_their_own_zero() -> None:
    assert equal("77 °F", Gold("25 °C", "integer")) and equal("298.15 K", Gold("25 °C", "float"))
    assert not equal("25 K", Gold("25 °C", "integer"))
    assert equal("4.18 J/(g K)", Gold(r"4.18 J/(g \cdot °C)", "float")), "a difference has none"


def test_the_registry_is_built_when_a_unit_is_met() -> None:
    program = (
        "import sys\n"
        "from racro.grading import equal\n"
        "from racro.schema import Gold\n"
        "assert equal('3', Gold('3', 'integer')) and equal('red', Gold('red', 'text')) and 'pint' not in sys.modules\n"
        "assert equal('3 m', Gold('300 cm', 'integer')) and 'pint' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_an_integer_is_exact_in_another_unit() -> None:
    assert equal("10 m/s", Gold("36 km/h", "integer")) and not equal("10.001 m/s", Gold("36 km/h", "integer"))
