"""All prompts, each with a name and a digest. RACRO's and RAPID's prompts are part of the model, byte for byte.

A prompt is a list of chat messages whose user content is a list of parts, text and images, in the form that Hugging
Face chat templates read. Nothing else in the project builds a message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

Message = dict[str, Any]
"""{"role": ..., "content": str | [{"type": "text", "text": str} | {"type": "image"}]}"""

IMAGE_TAG = "<image>"

CAPTION_SYSTEM = (
    "You are given an image and a relevant question. Based on the query, please describe the image in detail. "
    "Do not try to answer the question."
)
CAPTION_USER = "Question: {q}\nPlease describe the image. DO NOT try to answer the question!"
ATTEMPT_USER = "{q} Please think step by step. The final answer MUST BE put in \\boxed{{}}."
REASONER_SYSTEM = "You are a helpful assistant."
REASONER_TRAINING_USER = (
    "### The detailed caption of the provided image: {c}\n\n### Question: {q} "
    "Please think step by step. The final answer MUST BE put in \\boxed{{}}."
)
SHORT_ANSWER_SENTENCE = "Please try to answer the question with short words or phrases if possible."
REASONER_JOINT_USER = """\
In the following text, you will receive a detailed caption of an image and a relevant question. In addition, you will \
be provided with a tentative model response. You goal is to answer the question using these information.

### The detailed caption of the provided image: {c}

### Note that the caption might contain incorrect solutions, do not be misguided by them.

### A problem to be solved: {q}

### A tentative model response: {tentative}

### Note that the above tentative response might be inaccurate (due to calculation errors, incorrect logic/reasoning \
and so on), under such a case, please ignore it and give your own solutions. However, if you do not have enough \
evidence to show it is wrong, please output the tentative response.

### Please think step by step. The final answer MUST BE put in \\boxed{{}}."""

DESCRIBES_SYSTEM = "You are a careful AI assistant to check whether a text contains a description of an image."
DESCRIBES_USER = """
=========================== Example 1 ===========================
### A text regarding an image: The image displays the logo of Huawei, featuring a red, fan-like design with the word \
"Huawei" written below it. This image corresponds to the question provided which involves calculating the number of \
components that can be inserted into a phone circuit board in one minute based on the time it takes to insert one \
component. 

To solve the problem, we first need to determine how many components can be inserted in one minute. Since the \
production line takes \\(0.01\\) seconds to insert one component, we can find out how many components can be inserted \
in one minute by calculating the total number of seconds in a minute and then dividing by the time it takes to insert \
one component.

There are 60 seconds in one minute. So, the number of components that can be inserted in one minute is calculated as \
follows:
\\[
\\text{{Number of components}} = \\frac{{60 \\text{{ seconds}}}}{{0.01 \\text{{ seconds/component}}}} = 60 \\times 100 \
= 6000
\\]
Thus, the answer is \\(\\boxed{{6000}}\\).

### Does the text contains a description of the image? Please only answer yes or no:
Yes.

=========================== Example 2 ===========================
### A text regarding an image: To solve for the length of segment \\(ED\\), we first need to determine the lengths of \
the segments \\(AC\\), \\(BC\\), and \\(CE\\).

Given:
- \\(AB = 20\\)
- \\(C\\) is the midpoint of \\(AB\\), so \\(AC = CB = \\frac{{AB}}{{2}} = \\frac{{20}}{{2}} = 10\\).
- \\(D\\) is the midpoint of \\(BC\\), so \\(BD = DC = \\frac{{BC}}{{2}} = \\frac{{10}}{{2}} = 5\\).
- \\(CE = \\frac{{2}}{{5}}AC = \\frac{{2}}{{5}} \\times 10 = 4\\).

Since \\(AC = AE + CE\\) and \\(AC = 10\\), we have \\(AE = AC - CE = 10 - 4 = 6\\).

Now, we need to find the length of \\(ED\\). Since \\(E\\) is on \\(AC\\) and \\(C\\) is the midpoint of \\(AB\\), the \
coordinates of points \\(A\\), \\(E\\), and \\(C\\) can be visualized or calculated in terms of the distances. The \
distance \\(ED\\) can be found using the coordinates or the simpler arithmetic based on the positions:
\\[ED = EC + CD = 4 + 5 = 9.\\]
Thus, the length of segment \\(ED\\) is \\(\\boxed{{9}}\\).

### Does the text contains a description of the image? Please only answer yes or no:
No.


### A text regarding an image: {c}

### Does the text contains a description of the image? Please only answer yes or no."""


# --- modes clues, shots and check: prompts of this project, not of a paper --------------------------------------------

CLUES_ASK_USER = """\
### The detailed caption of the provided image: {c}

### A problem to be solved: {q}

### You cannot see the image, but a model that sees it will answer questions about it. Do not solve the problem yet. \
Write at most {n} short questions about what the image shows, those whose answers you need most. Write each on a line \
of its own, and nothing else."""
CLUE_USER = "{q}\nAnswer in one sentence, from what the image shows."
CLUES_USER = """\
### The detailed caption of the provided image: {c}

### Questions about the image, with the answers of a model that sees it:
{clues}

### Note that the caption and these answers might contain mistakes.

### Question: {q} Please think step by step. The final answer MUST BE put in \\boxed{{}}."""
UNANSWERABLE = "cannot be answered"
CHECK_USER = (
    REASONER_TRAINING_USER + " If the caption does not say what is needed, do not guess: write "
    "\\boxed{{cannot be answered}} and then, in one sentence, what is missing from the caption."
)
CAPTION_AGAIN_USER = """\
Question: {q}
An earlier description of the image was not enough to answer the question. What is missing: {missing}
Please describe the image again, and state precisely what is missing. DO NOT try to answer the question!"""
CHECKED_USER = """\
### The detailed caption of the provided image: {c}

### A second caption of the same image: {again}

### Question: {q} Please think step by step. The final answer MUST BE put in \\boxed{{}}."""
SHOTS_USER = """\
Each of the following solved examples is about another image.

{shots}

Now solve this one.

{asked}"""
SHOT = "### The detailed caption of the provided image: {c}\n\n### Question: {q}\n\n### Answer: \\boxed{{{a}}}"


def question_parts(template: str, question: str, images: int) -> list[dict[str, str]]:
    """The user content: `template` filled with `question`, each `<image>` placeholder turned into an image part.

    Without placeholders, all `images` parts precede the text. Raises ValueError when the number of placeholders
    is neither 0 nor `images`.
    """
    pieces = question.split(IMAGE_TAG)
    tags = len(pieces) - 1
    if tags not in (0, images):
        raise ValueError(f"{tags} {IMAGE_TAG} placeholders in the question, but {images} image{'s' * (images != 1)}")
    parts: list[dict[str, str]] = [] if tags else [{"type": "image"}] * images
    filled = template.format(q=question)
    for i, text in enumerate(filled.split(IMAGE_TAG)):
        if i:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def plain_question(question: str) -> str:
    """The question for a text-only reasoner: without image placeholders and the extra white space around them."""
    return re.sub(rf"\s*{re.escape(IMAGE_TAG)}\s*", " ", question).strip()


def caption_messages(question: str, images: int) -> list[Message]:
    """Captioner: describe the image, knowing the question."""
    return [
        {"role": "system", "content": [{"type": "text", "text": CAPTION_SYSTEM}]},
        {"role": "user", "content": question_parts(CAPTION_USER, question, images)},
    ]


def attempt_messages(question: str, images: int) -> list[Message]:
    """Captioner: answer the question itself; its attempt is the "tentative response" of joint inference."""
    return [{"role": "user", "content": question_parts(ATTEMPT_USER, question, images)}]


WRITING: dict[str, Callable[[str, int], list[Message]]] = {"caption": caption_messages, "answer": attempt_messages}
"""By the objective of a stage of a training: what the policy is asked. Called with a question and a number of images.
"""


def reasoner_messages(question: str, caption: str) -> list[Message]:
    """Reasoner in training: answer from the caption alone."""
    q = plain_question(question.replace(SHORT_ANSWER_SENTENCE, ""))
    return _text_messages(REASONER_SYSTEM, REASONER_TRAINING_USER.format(c=caption, q=q))


def joint_messages(question: str, caption: str, attempt: str) -> list[Message]:
    """Reasoner at inference: weigh the caption and the captioner's attempt."""
    text = REASONER_JOINT_USER.format(c=caption, q=plain_question(question), tentative=attempt)
    return _text_messages(REASONER_SYSTEM, text)


def text_messages(question: str) -> list[Message]:
    """Reasoner without image and caption: the blind baseline of an evaluation."""
    return _text_messages(REASONER_SYSTEM, ATTEMPT_USER.format(q=plain_question(question)))


def ask_clues_messages(question: str, caption: str, count: int) -> list[Message]:
    """Reasoner, mode clues: which sub-questions about the image are to be answered, at most `count`?"""
    return _text_messages(REASONER_SYSTEM, CLUES_ASK_USER.format(c=caption, q=plain_question(question), n=count))


def clue_messages(clue: str, images: int) -> list[Message]:
    """Captioner, mode clues: answer a sub-question from the image."""
    return [{"role": "user", "content": question_parts(CLUE_USER, plain_question(clue), images)}]


def clues_messages(question: str, caption: str, clues: str) -> list[Message]:
    """Reasoner, mode clues: answer from the caption and the answered sub-questions."""
    return _text_messages(REASONER_SYSTEM, CLUES_USER.format(c=caption, q=plain_question(question), clues=clues))


def check_messages(question: str, caption: str) -> list[Message]:
    """Reasoner, mode check: answer from the caption, or say that this cannot be done, and what is missing."""
    return _text_messages(REASONER_SYSTEM, CHECK_USER.format(c=caption, q=plain_question(question)))


def caption_again_messages(question: str, missing: str, images: int) -> list[Message]:
    """Captioner, mode check: describe the image again, with what the first caption lacks."""
    told = plain_question(missing).replace("{", "{{").replace("}", "}}")
    return [
        {"role": "system", "content": [{"type": "text", "text": CAPTION_SYSTEM}]},
        {"role": "user", "content": question_parts(CAPTION_AGAIN_USER.replace("{missing}", told), question, images)},
    ]


def checked_messages(question: str, caption: str, again: str) -> list[Message]:
    """Reasoner, mode check: answer from both captions."""
    return _text_messages(REASONER_SYSTEM, CHECKED_USER.format(c=caption, q=plain_question(question), again=again))


def shots_messages(question: str, caption: str, shots: Sequence[tuple[str, str, str]]) -> list[Message]:
    """Reasoner, mode shots: answer from the caption after solved examples (question, caption, answer)."""
    solved = "\n\n".join(SHOT.format(q=plain_question(q), c=c, a=a) for q, c, a in shots)
    asked = plain_text(reasoner_messages(question, caption)[-1])
    return _text_messages(REASONER_SYSTEM, SHOTS_USER.format(shots=solved, asked=asked))


def describes_messages(caption: str) -> list[Message]:
    """Policy, without images: does the caption contain a description (RAPID's penalty)? Answers yes or no."""
    return _text_messages(DESCRIBES_SYSTEM, DESCRIBES_USER.format(c=caption))


def _text_messages(system: str, user: str) -> list[Message]:
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": [{"type": "text", "text": user}]},
    ]


def plain_text(message: Message) -> str:
    """The text parts of a message as one string, for chat templates of text-only models, which take no parts."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def digest(*prompts: str) -> str:
    """Digest of the named prompts, part of the identity of every stage that uses them."""
    return hashlib.sha256("\0".join(prompts).encode()).hexdigest()[:16]


CAPTION_DIGEST = digest(CAPTION_SYSTEM, CAPTION_USER)
REASONER_DIGEST = digest(REASONER_SYSTEM, REASONER_TRAINING_USER, SHORT_ANSWER_SENTENCE)
ATTEMPT_DIGEST = digest(ATTEMPT_USER)
ANSWER_DIGEST = digest(REASONER_DIGEST, REASONER_JOINT_USER, ATTEMPT_USER)
DESCRIBES_DIGEST = digest(DESCRIBES_SYSTEM, DESCRIBES_USER)
ASK_CLUES_DIGEST = digest(REASONER_SYSTEM, CLUES_ASK_USER)
CLUE_DIGEST = digest(CLUE_USER)
CLUES_DIGEST = digest(REASONER_DIGEST, CLUES_USER)
CHECK_DIGEST = digest(REASONER_SYSTEM, CHECK_USER)
CAPTION_AGAIN_DIGEST = digest(CAPTION_SYSTEM, CAPTION_AGAIN_USER)
CHECKED_DIGEST = digest(REASONER_SYSTEM, CHECKED_USER)
SHOTS_DIGEST = digest(REASONER_DIGEST, SHOTS_USER, SHOT)
