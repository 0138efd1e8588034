"""The texts of the radar's page: both languages say the same, and no text is missing or left over."""

import json
import re
from string import Formatter

import pytest

from helpers.lines import MESSAGES
from helpers.radar import WEB

LABELS = json.loads((WEB / "labels.json").read_text(encoding="utf-8"))
EN, ZH = {**LABELS["en"], **MESSAGES}, LABELS["zh"]
SCRIPT = (WEB / "radar.js").read_text(encoding="utf-8")
KERNEL = (WEB.parent / "radar.py").read_text(encoding="utf-8")
SIGNS = {"comma", "list_title", "model_hint", "progress_of"}  # no words

HAN = re.compile("[\u4e00-\u9fff]")
QUOTED = set(re.findall(r'"(\w+)"', SCRIPT))
PREFIXES = tuple(re.findall(r"`(\w+_)\$\{", SCRIPT))  # of keys that are put together, such as `sample_${name}`
SURELY = re.compile(r'(?:app\.t\(|app\.fail\(|\bcard\(|\bt: |"t-\w+": )"(\w+)"')
OTHER = {"comm_live_update", "close_problem"}  # quoted, and no text
STATUSES = re.findall(r'status = {"key": "(\w+)"', KERNEL) + re.findall(r'status={"key": "(\w+)"', KERNEL)
PROBLEMS = re.findall(r'problem = {"key": "(\w+)"', KERNEL) + re.findall(r'SearchError\("(\w+)"', KERNEL)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_the_page_speaks_two_languages() -> None:
    assert sorted(LABELS) == ["en", "zh"]
    assert set(EN) == set(ZH)


def test_messages_are_written_once_in_english() -> None:
    assert not set(LABELS["en"]) & set(MESSAGES)


@pytest.mark.parametrize("key", sorted(EN))
def test_both_languages_say_the_same(key: str) -> None:
    assert placeholders(EN[key]) == placeholders(ZH[key])
    assert EN[key].strip() == EN[key] or key == "comma"
    assert HAN.search(ZH[key]) or key in SIGNS
    assert not HAN.search(EN[key])


def test_every_text_that_the_script_names_exists() -> None:
    used = set(SURELY.findall(SCRIPT)) | {word for word in QUOTED if "_" in word} - OTHER
    assert len(used) > 60
    assert used <= set(EN)
    assert {f"status_{key}" for key in STATUSES} | set(PROBLEMS) <= set(EN)


def test_no_text_is_left_over() -> None:
    asked = QUOTED | set(PROBLEMS) | set(MESSAGES)
    assert [key for key in EN if key not in asked and not key.startswith(PREFIXES)] == []


def test_what_users_wrote_never_becomes_html() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", SCRIPT)


def test_nothing_comes_from_elsewhere() -> None:
    style = (WEB / "radar.css").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|//\w", style)
    assert set(re.findall(r"https?://[^\"]+", SCRIPT)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bimport\b|\bfetch\(", SCRIPT)
