"""When two results may be compared, and the reason when they may not."""

from __future__ import annotations

from typing import Any


def unlike(
    ours: dict[str, Any], theirs: dict[str, Any], our_lists: dict[str, str], their_lists: dict[str, str]
) -> str | None:
    """Why two results are not comparable; None where they are.

    Args:
        ours, theirs: two ``result.json``.
        our_lists, their_lists: ``split_sha256`` of their ``environment.json``: list name to hash.
    """
    if ours["split"] is None or theirs["split"] is None:
        return "a run without val and test images has no score"
    scored = str(ours["split"])
    for key, what in (("split", "scored on"), ("protocol", "protocol"), ("tail_classes", "tail classes")):
        if ours[key] != theirs[key]:
            return f"{what}: {_show(ours[key])} and {_show(theirs[key])}"
    # unlabeled images are not read by a supervised method, which is what the others are compared with
    for name in (
        "labeled",
        scored,
        *(("unlabeled",) if "unlabeled" in our_lists and "unlabeled" in their_lists else ()),
    ):
        if our_lists.get(name) != their_lists.get(name):
            return f"the {name} lists differ"
    return None


def _show(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
