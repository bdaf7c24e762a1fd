"""Words of Chinese, Japanese and Korean around an answer: what announces it, denies it, or makes it a bound.

Characters are made plain before (`racro.grading.normalise`). Used by extraction, prose and the kinds.
"""

from __future__ import annotations

import re

_IS = "です|である|だ|と?になります|となります|でしょう|입니다|이다|이에요|예요"
_IS_NOT = "(?:では|じゃ)(?:な|あり)|でない|[가이은는] ?아[니닙]"
_LETTER = r"(?<![A-Za-z])\(?([A-J])\)?[*]{0,2}[ \t]?"
STATED = (
    re.compile(
        r"(?:答案|[结結]果|正[确確]的?[选選][项項]|(?<![不错錯])正[确確]的(?=是[ \t]?[A-J]))"
        r"(?:[应應][该該]?|[应應][当當])?(?:[是为為选選]|:)[ \t]?(?:[选選][项項])?[ \t]?:?[ \t]?([^\n。]{1,100})"
        r"|(?<![可待备備不别別])(?<!不[应應能要会會该該])(?<!不[应應][该該])"
        r"[选選](?:[择擇]|[项項]|択肢)?[ \t]?:?[ \t]?(\(?[A-J]{1,6}(?![A-Za-z])[^\n。]{0,60})"
        r"|\[答案\][ \t]?([^\n。\[]{1,100})"
    ),
    re.compile(
        r"(?:答え|正解|解答|回答|정답|답안?)(?:[は은는이]|として)?[ \t]?:?[ \t*]{0,3}"
        r"(?=[^\s:は은는이])([^\n。]{1,100}?)"
        rf"(?=[ \t*]{{0,3}}(?:(?:{_IS})[。.]?|[。.])?[ \t*]*(?:\n|$|。))"
        rf"|{_LETTER}(?:[が가이][ \t]?(?:正解|正しい|答え|정답|답)(?!{_IS_NOT})|を選(?:び|択))"
    ),
)
"""What says that an answer follows or has just stood there: 答案是, 故选C, 答えは, Bが正解, 정답:."""
IS_NOT = re.compile(rf"[不错錯非]|.{{0,20}}?(?:{_IS_NOT}|아[니닙])")
"""Behind an answer it denies it."""
NO_VALUE = re.compile(rf"以[上下内內外]|未[满満滿]|이[상하]|미만|초과|割|{_IS_NOT}")
"""In the words behind a number it makes a bound or a share of it, or denies it: 12以上."""
NOT_MEANT = re.compile(rf"\s?[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]{{0,2}}?(?:{NO_VALUE.pattern})")
IS_SO = re.compile(
    r"(?:[它这那]|答案)?[是为](?:一?[个只种条])?([\u4e00-\u9fff]+?)的?。?"
    rf"|([\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]+?)(?:{_IS})[。.]?"
)
"""A sentence that says of something what it is: 它是红色的, 赤です."""
YES_OR_NO = re.compile(
    r"(?:答案)?(?:是|为)?:?(?:(是|对|正确|能|可以|会|はい(?=$|[、,。 ]|です)|[예네](?![가-힣]))"
    r"|(?:否|不|错|没|いいえ|아니[요오]))"
    r"(?![\u4e00-\u9fff]{4})"
)
"""The first word of a text; a group for yes."""
