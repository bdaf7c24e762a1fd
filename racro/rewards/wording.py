"""What judges are told: the prompts of the rewards mcq, facts, correctness and retrieval, each with its digest.

Our own words; the papers name what is asked, not how, or were read in part only (docs/papers.md). Not the prompts of
captioner and reasoner (`racro.prompts`), which trained models depend on.
"""

from __future__ import annotations

from collections.abc import Sequence

from racro.prompts import Message, digest

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LEAD = "The answer is"
"""How the turn of a judge begins that is to answer by a letter."""
UNKNOWABLE = "It cannot be answered from the caption."

MCQ = """\
You see no image, only a caption of it. Answer the multiple-choice question from the caption alone. If the \
caption does not say what is asked, choose the last option. Answer by one letter and nothing else.

### Caption
{caption}

### Question
{question}
{options}"""

FACTS = """\
Below are a caption of an image and {n} numbered facts about the image. For each fact, write 1 if the caption \
states it, in whatever words, and 0 if the caption does not state it or contradicts it. Answer by exactly {n} \
digits, in the order of the facts, with a space between them, and nothing else.

### Caption
{caption}

### Facts
{facts}"""

SPLIT = """\
Divide this caption of an image into claims: short sentences, each of which says one thing about the image and \
can be understood alone. Leave out opinions and what is no claim about the image. Write one claim per line, at \
most {most}, and nothing else. If there is no claim, write: none

### Caption
{caption}"""

VERIFY = """\
Below are {n} numbered claims about the image. For each, look at the image and write true if it is so, false \
if it is not, and not visible if the image does not show it. Answer by exactly {n} lines, each with the number \
of the claim and one of the words true, false, not visible, and nothing else.

### Claims
{claims}"""

RETRIEVAL = """\
Below are a caption of an image and {n} numbered descriptions of different images. One of them is of the same \
image as the caption. Which one? Answer by its number and nothing else.

### Caption
{caption}

### Descriptions
{candidates}"""

AGAIN = "\n\nYour last answer did not have this form. Write exactly {n} {what} and nothing else."

MCQ_DIGEST = digest(MCQ, LEAD, UNKNOWABLE)
FACTS_DIGEST = digest(FACTS, AGAIN)
CORRECTNESS_DIGEST = digest(SPLIT, VERIFY, AGAIN)
RETRIEVAL_DIGEST = digest(RETRIEVAL)


def mcq_messages(caption: str, question: str, options: Sequence[str]) -> list[Message]:
    """A question with its options, the last of which says that it cannot be answered."""
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, [*options, UNKNOWABLE], strict=False))
    return _user(MCQ.format(caption=caption, question=question, options=listed))


def facts_messages(caption: str, facts: Sequence[str], again: bool) -> list[Message]:
    """Which of the facts does the caption state? `again`: the last answer had another form."""
    asked = FACTS.format(caption=caption, facts=_numbered(facts), n=len(facts))
    return _user(asked + (AGAIN.format(n=len(facts), what="digits") if again else ""))


def split_messages(caption: str, most: int) -> list[Message]:
    """What does the caption claim?"""
    return _user(SPLIT.format(caption=caption, most=most))


def verify_messages(claims: Sequence[str], images: int, again: bool) -> list[Message]:
    """Are the claims true of the images? `again`: the last answer had another form."""
    asked = VERIFY.format(claims=_numbered(claims), n=len(claims))
    return _user(asked + (AGAIN.format(n=len(claims), what="lines") if again else ""), images)


def retrieval_messages(caption: str, candidates: Sequence[str]) -> list[Message]:
    """Which of the candidates is of the same image as the caption?"""
    return _user(RETRIEVAL.format(caption=caption, candidates=_numbered(candidates), n=len(candidates)))


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}. {' '.join(text.split())}" for number, text in enumerate(texts, 1))


def _user(text: str, images: int = 0) -> list[Message]:
    return [{"role": "user", "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}]
