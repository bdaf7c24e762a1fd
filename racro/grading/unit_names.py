"""The words and symbols that are units in an answer, and pint's names for them.

Not the reading of units (`racro.grading.units`). A list, because pint knows many words that in an answer are none
("point", "hand", "pole"), and constants that are variables ("c", "k", "e").
"""

from __future__ import annotations

_METRIC = (
    "meter gram second ampere kelvin mole candela newton joule watt volt ohm siemens farad coulomb tesla weber henry "
    "hertz pascal bar liter calorie electron_volt watt_hour ampere_hour volt_ampere becquerel gray sievert lumen lux "
    "katal byte bit baud metric_ton parsec molar dalton poise"
)
METRIC = frozenset(_METRIC.split())
"""Units that take prefixes, by pint's names."""
_OTHER = (
    "minute hour day week month year century inch foot yard mile nautical_mile angstrom micron light_year "
    "astronomical_unit pound ounce ton unified_atomic_mass_unit carat degree_Celsius degree_Fahrenheit radian "
    "steradian degree arcminute arcsecond turn standard_atmosphere torr millimeter_Hg pound_force_per_square_inch "
    "dyne erg british_thermal_unit horsepower knot mile_per_hour kilometer_per_hour revolutions_per_minute hectare "
    "acre gallon quart pint cup fluid_ounce tablespoon teaspoon cubic_centimeter foot_pound curie"
)
OTHER = frozenset(_OTHER.split())
SINGLE = frozenset("msghdAVNJWKCFTHLlStBM")
"""Letters that are units on their own. Others are variables far more often."""
RARE = {
    "hecto": ("pascal",),
    "deca": (),
    "centi": ("meter", "liter"),
    "deci": ("meter", "liter"),
    "peta": ("byte", "joule"),
}
FEW = {"molar": ("milli", "micro", "nano"), "metric_ton": ("kilo", "mega", "giga")}
"""Prefixes whose symbol is taken before these units alone; written out before all."""
_NEVER = "atto zepto yocto ronto quecto exa zetta yotta ronna quetta semi sesqui"
NEVER = frozenset(_NEVER.split())
THINGS = frozenset(["circle", "circles", "mug"])
"""What is counted, and to pint a unit."""
NAMES = {
    "degree_Celsius": "°C degC celsius centigrade 摄氏度",
    "degree_Fahrenheit": "°F degF fahrenheit 华氏度",
    "kelvin": "°K degK",
    "degree": "arcdeg",
    "degree degree_Celsius degree_Fahrenheit": "° deg degs degree degrees 度",
    "coulomb degree_Celsius": "C",
    "farad degree_Fahrenheit": "F",
    "us_dollar": "$ usd USD dollar dollars buck bucks 美元",
    "us_cent euro_cent": "¢ cent cents",
    "euro": "€ eur EUR euro euros 欧元",
    "sterling": "£ gbp GBP quid",
    "penny": "penny pence",
    "pound sterling": "lb lbs pound pounds 磅",
    "yuan": "¥ cny CNY RMB rmb yuan yen jpy 元 日元 人民币",
    "rupee": "₹ inr INR rupee rupees",
    "ohm": "Ω ohm ohms 欧 欧姆",
    "ounce fluid_ounce": "oz ounce ounces",
    "ton metric_ton": "ton tons",
    "metric_ton": "mt tonne tonnes 吨",
    "standard_atmosphere": "atm atms atmosphere atmospheres",
    "millimeter_Hg": "mmHg",
    "turn": "rev revs revolution revolutions turn turns 圈",
    "revolutions_per_minute cycles_per_minute": "rpm RPM",
    "foot arcminute": "'",
    "inch arcsecond": '"',
    "arcminute": "arcmin arcminute arcminutes",
    "arcsecond": "arcsec arcsecond arcseconds",
    "astronomical_unit": "AU au",
    "light_year": "ly lightyear lightyears light-year light-years",
    "hertz": "cps 赫 赫兹",
    "month": "mo month months 月 个月",
    "year": "yr yrs year years 年",
    "week": "wk wks week weeks 周 星期",
    "day": "d day days 天 日",
    "hour": "h hr hrs hour hours 时 小时",
    "minute": "min mins 分钟",
    "minute arcminute": "minute minutes 分",
    "second": "s sec secs",
    "second arcsecond": "second seconds 秒",
    "meter": "m 米",
    "kilometer": "kms 千米 公里",
    "centimeter": "cms 厘米 公分",
    "millimeter": "mms 毫米",
    "decimeter": "分米",
    "gram": "克",
    "kilogram": "kgs kilo kilos 千克 公斤",
    "milligram": "毫克",
    "liter": "升",
    "milliliter": "毫升",
    "volt": "伏 伏特",
    "ampere": "安 安培",
    "newton": "牛 牛顿",
    "joule": "焦 焦耳",
    "watt": "瓦 瓦特",
    "pascal": "帕 帕斯卡",
    "kilometer_per_hour": "kph kmph kmh",
    "mile_per_hour": "mph",
    "knot": "knot knots kn",
    "decibel_level": "dB db decibel decibels",
    "fluid_ounce": "floz",
    "inch": "in inch inches",
    "gauss_of_field": "gauss",
    "kilobit": "Kb",
    "megabit": "Mb",
    "gigabit": "Gb",
    "terabit": "Tb",
    "kilobyte": "kb KB",
    "megabyte": "mb",
    "gigabyte": "gb",
    "terabyte": "tb",
    "kilobaud": "kbps Kbps",
    "megabaud": "Mbps mbps",
    "gigabaud": "Gbps gbps",
}
"""pint's name, or the names of all that may be meant: words and symbols beside those that pint knows itself."""
CURRENCIES = ("us_dollar", "euro", "sterling", "yuan", "rupee", "decibel_level")
PARTS = {"us_cent": "us_dollar", "euro_cent": "euro", "penny": "sterling"}
