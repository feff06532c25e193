"""Plain English: phrases that made earlier texts hard to read must not come back."""

import functools
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("tfrec_meta", "pipeline", "serving", "tests", "benchmarks", "examples", "docs")
ODD = {
    r"of the processor\b": "of CPU time",
    r"\bat home\b": "suited to",
    r"what it left\b": "its saved results",
    r"\bbelie(?:ve|f)": "weight, weighted",
    r"the more whose|the more the": "weighted by",
    r"whom one knows": "known users",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"that there is not\b": "unknown",
    r"leaves? the house": "is exported",
    r"\bpart positives\b": "separate",
    r"\bWhoever\b|\bwhoever\b": "a user who",
    r"nothing is known": "without history",
    r"\ba line a\b": "one line per",
    r"\banew\b": "again, from scratch",
    r"\blikewise\b": "also",
    r"\btells? which\b": "states, explains",
    r"small problems of": "small tasks",
    r"\bas click wants\b": "as click expects",
    r"\bcheckpoints live\b": "folder of the checkpoints",
    r"\btells? one \w+ from another\b": "identifies",
}
# A number without a leading zero, as in a figure "(.118)"; not a file name, slice or version.
NO_LEADING_ZERO = re.compile(r"(?<![\w.\]\)}*/'\"`\\-])\.\d{2,}\b(?!\.)")


@functools.cache
def texts() -> list[Path]:
    paths = list(ROOT.glob("*.md"))
    for folder in FOLDERS:
        for kind in ("*.py", "*.md", "*.html"):
            paths += (ROOT / folder).rglob(kind)
    return sorted(path for path in paths if "_build" not in path.parts)


@functools.cache
def prose_of(path: Path) -> str:
    """The text of a page, or the comments and texts of a Python file, one per line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


@pytest.mark.parametrize("phrase", sorted(ODD))
def test_odd_phrases_do_not_come_back(phrase):
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)!r}, instead: {ODD[phrase]}"
        for path in texts()
        if path != Path(__file__)
        for match in re.finditer(phrase, prose_of(path))
    ]
    assert not found, "\n".join(found)


def test_numbers_in_prose_have_a_leading_zero():
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in texts()
        if path != Path(__file__) and path.suffix != ".html"  # style sheets write .5
        for match in NO_LEADING_ZERO.finditer(prose_of(path))
    ]
    assert not found, "\n".join(found)
