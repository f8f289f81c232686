"""The columns of rows in an unknown layout: their names, including those nested in objects and lists, and their values.

For a row ``{"id": 3, "chosen": {"from": "gpt", "value": "Yes."}}``::

    id            integer: 3
    chosen        object
    chosen.from   text: "gpt"
    chosen.value  text of 4 characters
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from data.sources.raw import Unreadable
from tasks.describe.layout import named, paragraph, width

ANY = "*"
"""Replaces an item's index if a path goes through a list."""
_MOST_VALUES, _LONGEST_VALUE = 6, 30
_MOST_LINES, _MOST_CHILDREN, _DEEPEST = 60, 25, 5
_NAMES = {
    bool: "true/false",
    int: "integer",
    float: "number",
    str: "text",
    type(None): "null",
    Unreadable: "unreadable",
}


@dataclass
class Column:
    """What was seen at one path."""

    kinds: Counter[str] = field(default_factory=Counter)
    values: Counter[object] | None = field(default_factory=Counter)
    """How often each short value was seen; None if there are too many, or long ones."""
    sizes: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest, by kind: characters of a text, items of a list, the value of a number."""
    children: dict[str, Column] = field(default_factory=dict)
    more_children: bool = False

    def add(self, value: object, depth: int = 0) -> None:
        if isinstance(value, Mapping):
            self._saw("object")
            for key, child in value.items():
                self._add_child(str(key), child, depth)
        elif isinstance(value, list):
            self._saw("list", len(value))
            for item in value:
                self._add_child(ANY, item, depth)
        else:
            self._saw(_NAMES.get(type(value), type(value).__name__), self._size(value))
            self._count(value)

    def _add_child(self, key: str, value: object, depth: int) -> None:
        if depth >= _DEEPEST or (key not in self.children and len(self.children) >= _MOST_CHILDREN):
            self.more_children = True
            return
        self.children.setdefault(key, Column()).add(value, depth + 1)

    @staticmethod
    def _size(value: object) -> float | None:
        if isinstance(value, str):
            return len(value)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def _saw(self, kind: str, size: float | None = None) -> None:
        self.kinds[kind] += 1
        if size is not None:
            least, most = self.sizes.get(kind, (size, size))
            self.sizes[kind] = (min(least, size), max(most, size))

    def _count(self, value: object) -> None:
        if self.values is None or value is None or isinstance(value, Unreadable):
            return
        if isinstance(value, str | bytes) and len(value) > _LONGEST_VALUE:
            self.values = None
            return
        # 1, 1.0 and True are the same key of a Counter, but must be shown as they are.
        self.values[repr(value)] += 1
        if len(self.values) > _MOST_VALUES:
            self.values = None

    @property
    def text(self) -> str:
        """In words: kinds by how often they were seen, with their values if there are few, else their sizes."""
        (first, _), *others = self.kinds.most_common()
        return " or ".join([self._kind(first), *(f"{self._kind(kind)} ({n:,} times)" for kind, n in others)])

    def _kind(self, kind: str) -> str:
        if kind in ("object", "null"):
            return kind
        if kind == "list":
            return f"list of {_range(self.sizes[kind])}"
        if self.values and len(self.kinds.keys() - {"null"}) == 1:
            seen = self.values.most_common()
            return f"{kind}: {', '.join(f'{value} ({n:,})' if len(seen) > 1 else str(value) for value, n in seen)}"
        if kind == "text":
            return f"text of {_range(self.sizes[kind])} characters"
        return f"{kind} {_range(self.sizes[kind])}" if kind in self.sizes else kind


def _range(sizes: tuple[float, float]) -> str:
    least, most = (f"{size:,}" if isinstance(size, int) else f"{size:g}" for size in sizes)
    return least if least == most else f"{least} to {most}"


class Columns:
    """The columns of the rows added; a row that is not an object is only counted."""

    def __init__(self) -> None:
        self.rows = 0
        self.root = Column()
        self.names: dict[str, None] = {}
        self.read: set[str] | None = None

    def add(self, row: object, read: Collection[str] | None = None) -> None:
        """Adds a row; `read` names the columns of it that are read, if it is known how it is read."""
        self.rows += 1
        if read is not None:
            self.read = {*(self.read or ()), *read}
        if isinstance(row, Mapping):
            self.names |= dict.fromkeys(map(str, row))
            self.root.add(row)

    @property
    def unread(self) -> list[str]:
        """The columns that are read from no row; none if it is not known how rows are read."""
        return [] if self.read is None else [name for name in self.names if name not in self.read]

    def lines(self) -> list[str]:
        """A line for each path, up to a readable number, and what is not read."""
        found = list(self._paths(self.root, ""))
        column = min(max((len(path) for path, _ in found), default=0), width() // 3) + 4
        shown = [named(path, text, column) for path, text in found[:_MOST_LINES]]
        if len(found) > _MOST_LINES:
            shown.append(f"  … and {len(found) - _MOST_LINES} more")
        shown.append(paragraph(self._what_is_read(), "  "))
        if any(f".{ANY}" in path for path, _ in found):
            shown.append(
                paragraph(f"({ANY} stands for any item of a list: a column map uses the item's index, from 0)", "  ")
            )
        return shown

    def _what_is_read(self) -> str:
        if self.read is None:
            return "Which of them are read depends on the format or column map."
        if not self.unread:
            return "All columns are read."
        return f"Not read: {', '.join(self.unread)}. All other columns are read."

    def _paths(self, parent: Column, prefix: str) -> Iterator[tuple[str, str]]:
        for name, child in parent.children.items():
            # A line for an item that is an object would add nothing to its own columns.
            if not (name == ANY and child.kinds.keys() == {"object"}):
                missing = parent.kinds["object"] - child.kinds.total() if name != ANY else 0
                absent = f"; missing in {missing:,} of {parent.kinds['object']:,}" if missing > 0 else ""
                unread = "; not read" if parent is self.root and name in self.unread else ""
                yield prefix + name, child.text + absent + unread
            yield from self._paths(child, f"{prefix}{name}.")
        if parent.more_children:
            yield f"{prefix}…", "more columns, not shown"
