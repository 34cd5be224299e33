"""Every word and phrasing of the scenes world, in English and Korean, in one place.

README and model cards list these tables; tokenizers for tiny models are made from them. The first phrasing of a type
is its plain form. Korean particles are written both ways, ``은(는)``, and chosen by the sound before them.
"""

import re
from typing import Literal

Language = Literal["en", "ko"]

# English, English plural, Korean.
SHAPES = {
    "circle": ("circle", "circles", "원"),
    "square": ("square", "squares", "사각형"),
    "triangle": ("triangle", "triangles", "삼각형"),
    "star": ("star", "stars", "별"),
    "diamond": ("diamond", "diamonds", "마름모"),
    "heart": ("heart", "hearts", "하트"),
    "cross": ("cross", "crosses", "십자가"),
    "ring": ("ring", "rings", "고리"),
    "pentagon": ("pentagon", "pentagons", "오각형"),
    "crescent": ("crescent", "crescents", "초승달"),
    "arrow": ("arrow", "arrows", "화살표"),
    "drop": ("drop", "drops", "물방울"),
}
COLOURS = {
    "red": ("red", "빨간색"),
    "green": ("green", "초록색"),
    "blue": ("blue", "파란색"),
    "yellow": ("yellow", "노란색"),
    "purple": ("purple", "보라색"),
    "orange": ("orange", "주황색"),
    "pink": ("pink", "분홍색"),
    "brown": ("brown", "갈색"),
    "cyan": ("cyan", "청록색"),
    "grey": ("grey", "회색"),
    "white": ("white", "흰색"),
    "black": ("black", "검은색"),
}
SIZES = {"small": ("small", "작은"), "medium": ("medium", "중간"), "large": ("large", "큰")}
# The nine places: what an answer says, and how a sentence says where.
PLACES = {
    "top left": ("top left", "at the top left", "왼쪽 위", "왼쪽 위에"),
    "top": ("top", "at the top", "위", "위쪽에"),
    "top right": ("top right", "at the top right", "오른쪽 위", "오른쪽 위에"),
    "left": ("left", "on the left", "왼쪽", "왼쪽에"),
    "middle": ("middle", "in the middle", "가운데", "가운데에"),
    "right": ("right", "on the right", "오른쪽", "오른쪽에"),
    "bottom left": ("bottom left", "at the bottom left", "왼쪽 아래", "왼쪽 아래에"),
    "bottom": ("bottom", "at the bottom", "아래", "아래쪽에"),
    "bottom right": ("bottom right", "at the bottom right", "오른쪽 아래", "오른쪽 아래에"),
}
RELATIONS = {
    "left": ("to the left of", "왼쪽에"),
    "right": ("to the right of", "오른쪽에"),
    "above": ("above", "위에"),
    "below": ("below", "아래에"),
}
YES = {"en": "yes", "ko": "네"}
NO = {"en": "no", "ko": "아니요"}

# {it}, {other}: a noun phrase that names one object ("star", "red star", "red object", "small star").
PHRASINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "en": (
            "What color is the {it}?",
            "What is the color of the {it}?",
            "Which color does the {it} have?",
            "What colour is the {it}?",
        ),
        "ko": ("{it}은(는) 무슨 색인가요?", "{it}의 색은 무엇인가요?"),
    },
    "shape": {
        "en": (
            "What shape is the {colour} object?",
            "What is the shape of the {colour} object?",
            "Which shape does the {colour} object have?",
            "What is the {colour} object?",
        ),
        "ko": ("{colour} 물체는 무슨 모양인가요?", "{colour} 물체의 모양은 무엇인가요?"),
    },
    "count": {
        "en": (
            "How many objects are there?",
            "How many objects are in the picture?",
            "How many objects do you see?",
            "Count the objects.",
        ),
        "ko": ("물체가 몇 개 있나요?", "그림에 물체가 모두 몇 개인가요?"),
    },
    "count_of": {
        "en": ("How many {them} are there?", "How many {them} are in the picture?", "Count the {them}."),
        "ko": ("{them}이(가) 몇 개 있나요?", "{them}은(는) 모두 몇 개인가요?"),
    },
    "existence": {
        "en": (
            "Is there {a} {colour} {shape}?",
            "Is there {a} {colour} {shape} in the picture?",
            "Do you see {a} {colour} {shape}?",
            "Does the picture show {a} {colour} {shape}?",
        ),
        "ko": ("{colour} {shape}이(가) 있나요?", "그림에 {colour} {shape}이(가) 보이나요?"),
    },
    "side": {
        "en": (
            "Is the {it} on the left or on the right?",
            "Is the {it} on the right or on the left?",
            "On which side is the {it}, left or right?",
        ),
        "ko": ("{it}은(는) 왼쪽에 있나요, 오른쪽에 있나요?",),
    },
    "height": {
        "en": (
            "Is the {it} at the top or at the bottom?",
            "Is the {it} at the bottom or at the top?",
            "In which half is the {it}, top or bottom?",
        ),
        "ko": ("{it}은(는) 위에 있나요, 아래에 있나요?",),
    },
    "size": {
        "en": ("What size is the {it}?", "How big is the {it}?", "What is the size of the {it}?"),
        "ko": ("{it}의 크기는 어떤가요?", "{it}은(는) 크기가 어떤가요?"),
    },
    "where": {
        "en": ("Where is the {it}?", "In which part of the picture is the {it}?"),
        "ko": ("{it}은(는) 어디에 있나요?", "{it}의 위치는 어디인가요?"),
    },
    "what_at": {
        "en": ("What is {place}?", "Which object is {place}?"),
        "ko": ("{place} 무엇이 있나요?", "{place} 있는 물체는 무엇인가요?"),
    },
    "colour_at": {
        "en": ("What color is the object {place}?",),
        "ko": ("{place} 있는 물체는 무슨 색인가요?",),
    },
    "shape_at": {
        "en": ("What shape is the object {place}?",),
        "ko": ("{place} 있는 물체는 무슨 모양인가요?",),
    },
    "relation": {
        "en": ("Is the {it} {relation} the {other}?",),
        "ko": ("{it}은(는) {other}보다 {relation} 있나요?",),
    },
    "larger": {
        "en": ("Which is larger, the {it} or the {other}?", "Which is bigger, the {it} or the {other}?"),
        "ko": ("{it}와(과) {other} 중 어느 것이 더 큰가요?",),
    },
    "same colour": {
        "en": ("Do the {it} and the {other} have the same color?", "Are the {it} and the {other} the same color?"),
        "ko": ("{it}와(과) {other}의 색이 같은가요?",),
    },
    "same shape": {
        "en": ("Do the {it} and the {other} have the same shape?", "Are the {it} and the {other} the same shape?"),
        "ko": ("{it}와(과) {other}의 모양이 같은가요?",),
    },
    "more": {
        "en": ("Are there more {them} than {others}?",),
        "ko": ("{them}이(가) {others}보다 더 많은가요?",),
    },
    "text": {
        "en": ("What word is written in the picture?", "What does the text say?", "Read the word."),
        "ko": ("그림에 어떤 낱말이 쓰여 있나요?", "글자를 읽어 주세요."),
    },
    "box": {
        "en": ("Give the box of the {it}.", "Draw a box around the {it}.", "What is the bounding box of the {it}?"),
        "ko": ("{it}의 상자를 알려 주세요.", "{it}을(를) 둘러싼 상자는 어디인가요?"),
    },
    "caption": {
        "en": ("What is in the picture?", "What does the picture show?", "List the objects."),
        "ko": ("그림에 무엇이 있나요?", "물체를 모두 말해 주세요."),
    },
    "description": {
        "en": ("Describe the picture.", "Describe the picture in detail."),
        "ko": ("그림을 설명해 주세요.", "그림을 자세히 설명해 주세요."),
    },
}
# What a question is filed under; most types have one set of phrasings of the same name.
TYPES = (
    *("colour", "shape", "count", "existence", "side", "height", "size", "count_of", "where", "what_at"),
    *("colour_at", "shape_at"),
    *("relation", "comparison", "text", "box", "caption", "description"),
)

# Words drawn into pictures; every fifth is kept for held-out splits.
_WRITTEN = """
sun cat dog sea map ice tea bus fox owl hat key jam oak rug van web yak zip gum
moon tree fish bird lamp door rain snow wind fire ship road gold milk nest park quiz rose salt tent
apple bread cloud dream eagle flame grape house igloo jelly knife lemon mango night ocean piano queen river
"""
WRITTEN = tuple(_WRITTEN.split())

_PARTICLES = re.compile(r"(.)(은\(는\)|이\(가\)|을\(를\)|와\(과\))")
_CHOICES = {"은(는)": ("은", "는"), "이(가)": ("이", "가"), "을(를)": ("을", "를"), "와(과)": ("과", "와")}


def article(word: str) -> str:
    """``an`` before a vowel letter, else ``a``."""
    return "an" if word[0] in "aeiou" else "a"


def particles(text: str) -> str:
    """Korean particles chosen by whether the syllable before ends in a consonant."""
    return _PARTICLES.sub(lambda m: m[1] + _CHOICES[m[2]][0 if (ord(m[1]) - 0xAC00) % 28 else 1], text)


def fill(template: str, language: str, **words: str) -> str:
    """A phrasing with its words put in."""
    text = template.format(**words)
    return particles(text) if language == "ko" else text


def shape_word(shape: str, language: str, plural: bool = False) -> str:
    """The word for a shape; Korean has no plural here."""
    entry = SHAPES[shape]
    return entry[2] if language == "ko" else entry[1 if plural else 0]


def colour_word(colour: str, language: str) -> str:
    """The word for a colour."""
    return COLOURS[colour][language == "ko"]


def size_word(size: str, language: str) -> str:
    """The word for a size, as it stands before a noun."""
    return SIZES[size][language == "ko"]


def size_answer(size: str, language: str) -> str:
    """The word for a size, as it answers a question."""
    return {"small": "작음", "medium": "중간", "large": "큼"}[size] if language == "ko" else size
