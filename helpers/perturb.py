"""Changes texts as the world changes them: neutral text around them, words taken out, odd tokens put in."""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import cycle, islice

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from helpers.paths import DATA

PLACES = ("start", "middle", "end")  # of the text: where it stands, or where something is put into it
NEUTRAL = "neutral"  # what `passages` calls the sentences that say nothing
# The article's three, and the English words that stand nearest to them
STOP_WORDS = {"zh": ("的", "了", "在"), "en": ("the", "of", "in")}
# Words that hold one of them and stay whole
WHOLE = (
    "的话|目的|的确|(?<![所没])有的|似的|了解|为了|除了|算了|罢了|不了|得了|了不起|"
    "现在|正在|存在|实在|好在|在乎|在场|在校|在即|在世|在职|所在|自在"
)
# What a keyword list leaves out; negations stay, because they carry the meaning
CHINESE = """
的 了 在 着 过 地 得 是 有 和 与 跟 及 或 而 且 也 都 就 还 又 再 才 很 太 更 最 把 被 让 给 对 向 从 到 于 以 为
因 由 这 那 这个 那个 这些 那些 一个 个 吗 呢 吧 啊 呀 我 你 他 她 它 我们 你们 他们 她们 自己 所 其 之 已 已经 则
却 但 如果 因为 所以 但是 可是 虽然 而且 或者 以及 就是 还是 都是 也是 有的 的话 上 里 中 会 要 能 可以
"""
ENGLISH = """
a an the of in on at to for from by with as into onto and or but so if than then that this these those there here
is are was were be been being am has have had having do does did will would shall should can could may might must i
me my you your he him his she her it its we us our they them their who whom whose which what when while up down out
off over about just very too also any some such own it's i'm i've he's she's that's there's they're we're you're
"""
FUNCTION_WORDS = {"zh": frozenset(CHINESE.split()), "en": frozenset(ENGLISH.split())}
# Something odd to put into a text; the first is the control: a word that no reader would stumble over
ODD = {
    "ordinary word": {"zh": "其实", "en": "indeed"},
    "random letters": {"zh": "xqzj", "en": "xqzj"},
    "symbols": {"zh": "###", "en": "###"},
    "emoji": {"zh": "🤖", "en": "🤖"},
    "rare character": {"zh": "龘", "en": "龘"},
    "full-width letters": {"zh": "ＯＫ", "en": "ＯＫ"},
    "another script": {"zh": "привет", "en": "привет"},
}
MISTYPED = "typing error"
SYMBOLS = ("", "---", "***", "……", "。", "1.", "→")  # lines that say nothing; the first is blank

HAN = r"\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff"
WORD = re.compile(rf"[{HAN}]+|(?:(?![{HAN}])\w)+(?:['’-](?:(?![{HAN}])\w)+)*|[^\w\s]")
PARTICLE = re.compile(f"{WHOLE}|[的了着]|(?:(?![的了着])[{HAN}])+")  # which a piece may have at its end
SENTENCE_ENDS = tuple(".!?。！？…”’\"'」』)）")

Span = tuple[int, int]


@cache
def passages(language: str) -> dict[str, list[str]]:
    """Returns the sentences of data/passages.csv in a language, by topic; none for a language that is not there.

    The topic `NEUTRAL` holds sentences that say nothing; each of the others holds 28 on one subject, the first four of
    which ask or complain, as a search would.
    """
    table = pd.read_csv(DATA / "passages.csv", dtype=str, keep_default_na=False)
    return {topic: list(rows["text"]) for topic, rows in table[table["language"] == language].groupby("topic")}


def join(sentences: Sequence[str]) -> str:
    """Joins sentences to one text: each gets a full stop if it has no end, and a space where its script has spaces."""
    text = ""
    for sentence in sentences:
        wide = bool(re.search(f"[{HAN}]", sentence))
        ended = sentence if sentence.endswith(SENTENCE_ENDS) else sentence + ("。" if wide else ".")
        text += ended if not text or wide else f" {ended}"
    return text


def pad(text: str, fillers: Sequence[str], place: str) -> str:
    """Puts sentences around a text, which stands at the `start`, in the `middle` or at the `end` of the result."""
    before = {"start": 0, "middle": len(fillers) // 2, "end": len(fillers)}[place]
    return join([*fillers[:before], text, *fillers[before:]]) if len(fillers) else text


def pad_all(texts: Sequence[str], fillers: Sequence[str], count: int, place: str, seed: int = 0) -> list[str]:
    """Pads each text with so many sentences in an order of its own, which begins the same for any `count`.

    Where `fillers` are fewer than `count`, they come round again.
    """
    orders = np.random.default_rng(seed)
    return [pad(text, list(islice(cycle(orders.permutation(fillers).tolist()), count)), place) for text in texts]


def words(text: str, tokenizer: PreTrainedTokenizerBase) -> list[Span]:
    """Finds the words and punctuation marks of a text.

    Args:
        text: The text.
        tokenizer: A fast tokenizer whose pieces stand in for words where a script writes none apart.

    Returns:
        Start and end of each.
    """
    return [span for match in WORD.finditer(text) for span in _split(match, tokenizer)]


def without(text: str, gone: Collection[str]) -> str:
    """Takes words out of a text, except where they are part of one in `WHOLE` or joined by a hyphen.

    A text of such words alone stays.
    """
    bounded = "|".join(rf"(?<![\w-]){re.escape(word)}(?![\w-])" if word.isascii() else re.escape(word) for word in gone)
    left = re.sub(f"({WHOLE})|{bounded}", lambda match: match[1] or "", text, flags=re.IGNORECASE)
    left = _close_gaps(left)
    return left if re.search(r"\w", left) else text


def without_others(
    texts: Sequence[str], spared: Collection[str], tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> list[str]:
    """Takes random words out of texts, as many as each has of those in `spared`, but none of these and no mark.

    They are longer on average than stop words, so more of the text goes. A text keeps one word at least; one that has
    no others to spare stays. `tokenizer` is as in `words`.
    """
    generator, left = np.random.default_rng(seed), []
    for text in texts:
        found = [span for span in words(text, tokenizer) if _is_word(text, span)]
        free = [span for span in found if text[slice(*span)].lower() not in spared]
        drawn = generator.permutation(len(free))[: max(0, min(len(found) - len(free), len(free) - 1))]
        for start, end in sorted((free[place] for place in drawn), reverse=True):
            text = text[:start] + text[end:]
        left.append(_close_gaps(text))
    return left


def listed(text: str, spans: Sequence[Span], gone: Collection[str] = (), comma: bool = True) -> str:
    """Makes a list of keywords from a text: without some words and, with commas, without its own punctuation.

    A text of such words alone keeps them.
    """
    kept = [span for span in spans if text[slice(*span)].lower() not in gone]
    if not any(_is_word(text, span) for span in kept):
        kept = list(spans)
    spaced = not re.search(f"[{HAN}]", text)
    if comma:
        return (", " if spaced else ",").join(text[slice(*span)] for span in kept if _is_word(text, span))
    return _close_gaps((" " if spaced else "").join(text[slice(*span)] for span in kept))


def inject(text: str, spans: Sequence[Span], odd: str, place: str) -> str:
    """Puts something before a text, between two of its words or behind it, with spaces where its script has them."""
    position = {"start": 0, "middle": spans[len(spans) // 2][0], "end": len(text)}[place]
    before, after = text[:position].rstrip(), text[position:]
    space = "" if re.search(f"[{HAN}]", text) else " "
    return f"{before}{space}{odd}{space}{after}".strip()


def mistype(text: str, spans: Sequence[Span], place: str) -> str:
    """Swaps two neighbouring characters within a word, or between words that are one character long.

    Takes the first such word from the `start` or the `middle` of the text on, or the last one before its `end`; a text
    that has no two different neighbours stays.
    """
    pairs = [
        at
        for at in range(len(text) - 1)
        if text[at] != text[at + 1] and text[at : at + 2].isalnum() and not text[at].isdigit()
    ]
    inner = [at for at in pairs if at not in {start for start, _ in spans} or not text[at].isascii()]
    pairs = inner or pairs
    if not pairs:
        return text
    at = {"start": pairs[0], "middle": min(pairs, key=lambda at: abs(at - len(text) / 2)), "end": pairs[-1]}[place]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def odd(language: str) -> list[str]:
    """Returns the `ODD` things, the ordinary word in a language or, where there is none, in English."""
    return [by_language.get(language, by_language["en"]) for by_language in ODD.values()]


def noisy(texts: Sequence[str], language: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[str]]:
    """Puts each kind of `ODD` thing into texts, or a typing error, at each of `PLACES`.

    Args:
        texts: The texts.
        language: Decides which ordinary word is put in; English for one that `ODD` does not know.
        tokenizer: As in `words`.

    Returns:
        The changed texts by kind and place, such as "emoji, middle".
    """
    spans = [words(text, tokenizer) for text in texts]
    made = {
        f"{kind}, {place}": [inject(text, some, what, place) for text, some in zip(texts, spans, strict=True)]
        for kind, what in zip(ODD, odd(language), strict=True)
        for place in PLACES
    }
    typed = {place: [mistype(text, some, place) for text, some in zip(texts, spans, strict=True)] for place in PLACES}
    return made | {f"{MISTYPED}, {place}": some for place, some in typed.items()}


def lists(texts: Sequence[str], language: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[str]]:
    """Turns texts into lists of keywords in two steps, and takes each step alone.

    Args:
        texts: The texts.
        language: Decides which words count as `FUNCTION_WORDS`.
        tokenizer: As in `words`.

    Returns:
        The texts by what was done: "sentence" (nothing), "function words out", "commas in", "keyword list" (both).
    """
    spans, gone = [words(text, tokenizer) for text in texts], FUNCTION_WORDS.get(language, frozenset())
    steps = {"function words out": (gone, False), "commas in": ((), True), "keyword list": (gone, True)}
    made = {"sentence": list(texts)}
    for name, (out, comma) in steps.items():
        made[name] = [listed(text, some, out, comma) for text, some in zip(texts, spans, strict=True)]
    return made


def _split(match: re.Match[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[Span]:
    """Yields a match, or the tokenizer's pieces of it where it is a run of characters without spaces."""
    if not re.match(f"[{HAN}]", match[0]):
        yield match.span()
        return
    offsets = tokenizer(match[0], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ends = sorted({end for _, end in offsets} - {0})  # the bytes of one character share theirs
    for start, end in zip([0, *ends], [*ends[:-1], len(match[0])], strict=False):
        for part in PARTICLE.finditer(match[0], start, end):
            yield match.start() + part.start(), match.start() + part.end()


def _close_gaps(text: str) -> str:
    """Takes away the spaces that a missing word leaves."""
    return re.sub(r"\s+(?=[,.;:!?])", "", re.sub(r" {2,}", " ", text)).strip()


def _is_word(text: str, span: Span) -> bool:
    return text[span[0]].isalnum()
