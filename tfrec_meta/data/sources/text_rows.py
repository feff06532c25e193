"""Divides delimited text into blocks of whole rows; finds rows that quotation marks break.

A line is physical. A row is one line, or several lines if a quoted cell holds line breaks. Blank
lines are not rows. Every other line belongs to a row that is kept or to a row that is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tfrec_meta.data.sources.byte_streams import TextStream
from tfrec_meta.data.sources.formats import TextFormat

_LONGEST_ROW = 256 << 20  # bytes
_LONGEST_CELL = 8 << 20  # bytes within which a quotation mark has to be closed
_FEW = 3  # lines of a cell that are likely to be rows if each looks like one

_NEW_LINE, _RETURN = 10, 13


@dataclass
class Block:
    """Whole rows of a text.

    Attributes:
        data: the bytes, which end in a line break.
        line: number of lines of the text before the block.
        joined: (first, last) lines of the rows that have several lines, ascending.
        removed: why a row is removed, by its first line.
    """

    data: bytes
    line: int
    joined: list[tuple[int, int]] = field(default_factory=list)
    removed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buffer = np.frombuffer(self.data, np.uint8)
        self._ends: np.ndarray | None = None
        self._starts: np.ndarray | None = None

    @property
    def ends(self) -> np.ndarray:
        """Int [lines]: the position of the last byte of each line."""
        if self._ends is None:
            is_end = self.buffer == _NEW_LINE
            if b"\r" in self.data:
                follows = np.append(self.buffer[1:] == _NEW_LINE, False)
                is_end |= (self.buffer == _RETURN) & ~follows
            self._ends = np.flatnonzero(is_end)
        return self._ends

    @property
    def starts(self) -> np.ndarray:
        """Int [lines]: the position of the first byte of each line."""
        if self._starts is None:
            self._starts = np.concatenate([[0], self.ends[:-1] + 1])
        return self._starts

    def first_lines(self) -> np.ndarray:
        """Returns the first line of each row of the block, removed rows included."""
        starts, ends = self.starts, self.ends
        last = np.where(self.buffer[np.maximum(ends - 1, 0)] == _RETURN, ends - 1, ends)
        filled = last > starts
        for first, final in self.joined:
            filled[first] = True
            filled[first + 1 : final + 1] = False
        return np.flatnonzero(filled)

    def text_of(self, line: int) -> str:
        """Returns a line without its line break."""
        begin, end = self.starts[line], self.ends[line]
        return self.data[begin:end].decode("utf8", "replace").rstrip("\r")

    def kept(self) -> bytes:
        """Returns the bytes without the removed rows."""
        if not self.removed:
            return self.data
        last = dict(self.joined)
        keep = np.ones(len(self.ends), bool)
        for line in self.removed:
            keep[line : last.get(line, line) + 1] = False
        lengths = self.ends - self.starts + 1
        return self.buffer[np.repeat(keep, lengths)].tobytes()


def whole_lines(stream: TextStream) -> Iterator[tuple[bytes, bool]]:
    """Yields a text in pieces that end with a line break, and whether a piece is the last one.

    The last piece may be empty. A last line that another process has not finished is left out.

    Raises:
        ValueError: if a line is too long.
    """
    carry = b""
    for chunk in stream.chunks():
        data = carry + chunk if carry else chunk
        cut = data.rfind(b"\n") + 1
        if not cut:  # a carriage return may be the first half of a line break
            cut = data.rfind(b"\r", 0, -1) + 1
        if not cut and len(data) > _LONGEST_ROW:
            raise ValueError(
                f"{stream.shown} has a line of more than {_LONGEST_ROW >> 20} MB; check its format."
            )
        carry = data[cut:]
        if cut:
            yield data[:cut], False
    if carry and not stream.grew and carry[-1:] not in (b"\n", b"\r"):
        carry += b"\n"
    yield (b"" if carry[-1:] not in (b"\n", b"\r") else carry), True


class RowSplitter:
    """Divides whole lines into blocks of whole rows.

    Args:
        text: the format.
        width: number of cells of a row.
        line: number of lines before the first piece, such as that of the header.
    """

    def __init__(self, text: TextFormat, width: int, line: int) -> None:
        self._delimiter, self._quote = text.delimiter.encode(), text.quote.encode()
        self._trusted = text.trusted
        self._width, self._line = width, line
        self._carry = b""

    def block(self, lines: bytes, final: bool) -> Block:
        """Returns the rows that are complete with these lines; the rest follows in the next block.

        Args:
            lines: the next lines.
            final: whether these are the last ones.
        """
        block = Block(self._carry + lines if self._carry else lines, self._line)
        self._carry = b""
        if self._quote and self._quote in block.data:
            cut = self._find_quoted(block, final)
            if cut is not None:
                self._carry = block.data[block.starts[cut] :]
                joined, removed = block.joined, block.removed
                block = Block(block.data[: block.starts[cut]], self._line, joined, removed)
        return block

    def advance(self, block: Block) -> None:
        """Counts the lines of a block before the next one."""
        self._line += len(block.ends)

    def remove_wrong_widths(self, block: Block) -> None:
        """Marks the rows with too few or too many cells as removed."""
        ends, starts = block.ends, block.starts
        places = np.flatnonzero(block.buffer == ord(self._delimiter))
        odd: list[int] = []
        if self._quote and self._quote in block.data:
            quotes = np.flatnonzero(block.buffer == ord(self._quote))
            lines = np.searchsorted(ends, places)
            before = np.searchsorted(quotes, starts)
            places = places[(np.searchsorted(quotes, places) - before[lines]) % 2 == 0]
            odd = [*self._irregular(block, quotes), *(first for first, _ in block.joined)]
        cells = np.diff(np.searchsorted(places, np.append(starts, ends[-1] + 1))) + 1
        for line in odd:
            cells[line] = self._scan(block, line).cells
        first_lines = block.first_lines()
        for line in first_lines[cells[first_lines] != self._width].tolist():
            if line not in block.removed:
                block.removed[line] = f"{cells[line]} cells instead of {self._width}"

    def _find_quoted(self, block: Block, final: bool) -> int | None:
        """Finds rows of several lines and stray quotation marks.

        Returns:
            The line at which a row begins that these lines do not complete; None without one.
        """
        quotes = np.flatnonzero(block.buffer == ord(self._quote))
        if self._is_regular(block, quotes):
            return None
        resume = 0
        for line in self._irregular(block, quotes):
            if line < resume:
                continue
            row = self._scan(block, line)
            resume = line + 1
            if row.last is None:
                size = len(block.data) - int(block.starts[line])
                if not final and size <= _LONGEST_CELL:
                    return line
                block.removed[line] = "a quotation mark opens a cell and none closes it"
            elif row.last > line:
                if row.malformed or (not self._trusted and self._are_rows(block, line, row.last)):
                    block.removed[line] = (
                        f"a quotation mark opens a cell that would end {row.last - line} lines "
                        "below, and swallow the rows between"
                    )
                else:
                    block.joined.append((line, row.last))
                    resume = row.last + 1
        return None

    def _is_regular(self, block: Block, quotes: np.ndarray) -> bool:
        """Returns whether all quotation marks come in pairs around cells, none over two lines."""
        if len(quotes) % 2:
            return False
        opening, closing = quotes[0::2], quotes[1::2]
        good = self._can_open(block, opening).all() and self._can_close(block, closing).all()
        return bool(good and not (np.searchsorted(quotes, block.ends) % 2).any())

    def _irregular(self, block: Block, quotes: np.ndarray) -> list[int]:
        """Returns the lines whose quotation marks do not come in pairs around cells."""
        lines = np.searchsorted(block.ends, quotes)
        counts = np.bincount(lines, minlength=len(block.ends))
        rank = np.arange(len(quotes)) - (np.cumsum(counts) - counts)[lines]
        opens = rank % 2 == 0
        wrong = np.where(opens, ~self._can_open(block, quotes), ~self._can_close(block, quotes))
        irregular = np.bincount(lines[wrong], minlength=len(block.ends)) + counts % 2
        return np.flatnonzero(irregular).tolist()

    def _can_open(self, block: Block, quotes: np.ndarray) -> np.ndarray:
        before = block.buffer[np.maximum(quotes - 1, 0)]
        marks = (ord(self._delimiter), ord(self._quote), _NEW_LINE, _RETURN)
        return (quotes == 0) | np.isin(before, np.array(marks, np.uint8))

    def _can_close(self, block: Block, quotes: np.ndarray) -> np.ndarray:
        after = block.buffer[np.minimum(quotes + 1, len(block.buffer) - 1)]
        marks = (ord(self._delimiter), ord(self._quote), _NEW_LINE, _RETURN)
        return np.isin(after, np.array(marks, np.uint8))

    def _scan(self, block: Block, line: int) -> _Row:
        """Follows one row, as Arrow and Python's `csv` do, from the beginning of a line."""
        data, ends, quote = block.data, block.ends, self._quote
        place, end = int(block.starts[line]), int(ends[line])
        if data[end - 1 : end + 1] == b"\r\n":
            end -= 1
        cells, malformed = 1, False
        while True:
            if data[place : place + 1] == quote:
                place += 1
                while True:
                    place = data.find(quote, place)
                    if place < 0:
                        return _Row(cells, None, malformed)
                    if data[place + 1 : place + 2] != quote:
                        break
                    place += 2
                place += 1
                if place > end:
                    line = int(np.searchsorted(ends, place))
                    end = int(ends[line])
                    if data[end - 1 : end + 1] == b"\r\n":
                        end -= 1
                malformed |= place < end and data[place : place + 1] != self._delimiter
            place = data.find(self._delimiter, place, end) + 1
            if not place:
                return _Row(cells, line, malformed)
            cells += 1

    def _are_rows(self, block: Block, first: int, last: int) -> bool:
        """Returns whether each of these lines looks like a row of its own."""
        if last - first + 1 < _FEW:
            return False
        starts, ends = block.starts, block.ends
        for line in range(first, last + 1):
            cells = block.data[starts[line] : ends[line]].split(self._delimiter)
            if len(cells) != self._width or not cells[0].strip(b" \t" + self._quote):
                return False
        return True


@dataclass(frozen=True)
class _Row:
    """A row: its cells, its last line (None if a quoted cell is not closed), and its quoting."""

    cells: int
    last: int | None
    malformed: bool
