"""README.zh.md keeps step with the README: the same sections, commands, keys, topics and pages."""

import re

from tests.outside import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
SECTIONS = {
    "Try it": "试一试",
    "Act on decisions": "根据决策行动",
    "The keys that matter": "重要的键",
    "Time, and other machines": "时间，以及其他机器",
    "Record once, replay for ever": "一次录制，永远回放",
    "In the field": "在现场",
    "Change it": "修改它",
    "Figures": "数字",
    "Limits, said plainly": "局限，直说",
    "Licences": "许可",
}


def blocks(text: str) -> list[str]:
    """Everything that is shown as it is typed or printed, but for the recipes' diffs."""
    return [block for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if kind != "diff"]


def commands(text: str) -> set[str]:
    """The commands that stand in sentences."""
    return set(re.findall(r"`((?:python |make |mosquitto_pub |kill |\.venv/bin/python )[^`\n]+)`", text))


def first_cells(text: str) -> list[str]:
    """What the rows of tables are about, where that is a key or a topic."""
    return re.findall(r"^\| (`[^|]+`) \|", text, re.M)


def test_the_same_sections_in_the_same_order() -> None:
    english = re.findall(r"^## (.+)$", ENGLISH, re.M)
    assert re.findall(r"^## (.+)$", CHINESE, re.M) == [SECTIONS[name] for name in english]


def test_what_is_typed_and_printed_is_the_same() -> None:
    assert blocks(CHINESE) == blocks(ENGLISH)
    assert len(blocks(ENGLISH)) >= 5


def test_no_command_of_the_chinese_one_is_another() -> None:
    assert commands(CHINESE)
    assert commands(CHINESE) - commands(ENGLISH) == set()


def test_the_same_keys_and_topics() -> None:
    assert first_cells(CHINESE) == first_cells(ENGLISH)
    assert len(first_cells(ENGLISH)) >= 15


def test_the_same_pages_are_linked() -> None:
    def pages(text: str) -> set[str]:
        return set(re.findall(r"\]\((docs/[\w.]+)\)", text)) - {"docs/fusion.md"}

    assert pages(CHINESE) == pages(ENGLISH)
