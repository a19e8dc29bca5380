"""The identity of a recipe: a hash that is equal for what must give equal results."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from harness.recipe import Recipe

NUMERICS = 2
"""Raised, with a CHANGELOG line, when a fix changes the results of an unchanged recipe; part of every identity."""


def identity_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields that change results and differ from their schema defaults."""
    return {
        entry.name: getattr(recipe, entry.name)
        for entry in fields(Recipe)
        if entry.metadata["identity"] and getattr(recipe, entry.name) != entry.default
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """Content digests of what a recipe reads: sha256 in hexadecimal (of pretrained weights: its published start)."""

    train_annotations: str
    val_annotations: str
    pretrained: str


def identity(recipe: Recipe, digests: Digests) -> str:
    """The recipe's identity, 16 hexadecimal digits: equal for what must give equal results, whatever paths, hosts or

    clusters. A field added to the schema later, at its default, changes no identity.
    """
    return digest({"fields": identity_fields(recipe), "digests": asdict(digests), "numerics": NUMERICS})


def digest(value: Any) -> str:
    """16 hexadecimal digits of a canonical JSON form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
