"""The classes of a COCO file, and which of them its annotations use."""

from collections.abc import Sequence
from typing import Any

from visionyard.data.items import Problems

_SHOWN_NAMES = 20


class Categories:
    """Class names by their ids, gathered as the file is read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._names: dict[int, str] = {}
        self.parents: set[str] = set()
        self._used_ids: set[int] = set()

    def add(self, values: dict[str, Any], problems: Problems) -> None:
        """Take an entry of `categories`; the first of an id counts."""
        category_id, name = values.get("id"), values.get("name")
        if type(category_id) is not int or not isinstance(name, str) or not name.strip():
            message = f"a category needs id and name, got {str(category_id)[:40]!r} and {str(name)[:40]!r}; left out"
            problems.add("malformed_entry", self.file, message, "categories")
            return
        item = f"category {str(category_id)[:40]}"
        if self._names.setdefault(category_id, name.strip()) != name.strip():
            message = f"it is both {self._names[category_id][:80]!r} and {name.strip()[:80]!r}; the first is taken"
            problems.add("duplicate_category_id", self.file, message, item)
        parent = values.get("supercategory")
        # COCO's own `person` is of the supercategory `person`: that makes it no parent of others.
        if isinstance(parent, str) and parent.strip() != name.strip():
            self.parents.add(parent.strip())

    def use(self, category_id: Any) -> None:
        """Note that an annotation is of a class."""
        if type(category_id) is int:
            self._used_ids.add(category_id)

    def names(self) -> list[str]:
        """Return the class names in the order of their ids."""
        return [self._names[each] for each in sorted(self._names)]

    def used_names(self) -> set[str]:
        """Return the names that an annotation has."""
        return {self._names[each] for each in self._used_ids if each in self._names}

    def name_of(self, category_id: Any) -> str | None:
        """Return the class of an id; None when the file lists none."""
        return self._names.get(category_id) if type(category_id) is int else None


def merged_classes(files: Sequence[Categories], problems: Problems) -> list[str]:
    """Return the class names of all files, each file's in the order of its ids.

    A parent of other classes that no box has is none: nothing could be of that class (a habit of Roboflow's exports).
    That and classes without a box are told.
    """
    used = {name for file in files for name in file.used_names()}
    parents = {name for file in files for name in file.parents}
    names = dict.fromkeys(name for file in files for name in file.names())
    if not used:
        return list(names)
    unused = [name for name in names if name not in used]
    unused_parents = [name for name in unused if name in parents]
    if unused_parents:
        message = f"{_listed(unused_parents)}: parents of other classes that no box has; no classes of ours"
        problems.add("parent_class_left_out", files[0].file, message, "categories")
    if len(unused) > len(unused_parents):
        kept = [name for name in unused if name not in parents]
        message = f"{len(kept)} of {len(names)} classes have no box: {_listed(kept)}; kept"
        problems.add("class_without_boxes", files[0].file, message, "categories")
    return [name for name in names if name not in unused_parents]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name[:80] for name in names[:_SHOWN_NAMES]) + (" ..." if len(names) > _SHOWN_NAMES else "")
