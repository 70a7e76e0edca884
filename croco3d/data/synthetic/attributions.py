"""Who made the furniture, and on which terms: tables to ship with rendered rooms."""

import csv
import os
from collections.abc import Collection
from dataclasses import asdict, fields
from importlib.resources import files

from ...files import atomic_path
from .catalogue import Catalogue
from .furniture import Attribution


def attribution_rows(
    catalogue: Catalogue, names: Collection[str] | None = None
) -> list[Attribution]:
    """Licences and authors of a catalogue's models.

    Args:
        catalogue: from `load_catalogue`.
        names: only these pieces; all where not given.

    Returns:
        One row a model, sorted; procedural shapes have none.
    """
    rows = {
        piece.attribution
        for piece in catalogue.pieces
        if piece.attribution is not None and (names is None or piece.name in names)
    }
    return sorted(rows, key=lambda row: row.id)


def write_attributions(path: str | os.PathLike[str], rows: list[Attribution]) -> None:
    """Write rows as a CSV table.

    Args:
        path: of the table.
        rows: what `attribution_rows` gave.
    """
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.DictWriter(handle, [f.name for f in fields(Attribution)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_attributions(path: str | os.PathLike[str]) -> list[Attribution]:
    """Read a table that `write_attributions` wrote.

    Args:
        path: of the table.

    Returns:
        Its rows.
    """
    with open(path, newline="") as handle:
        return [Attribution(**row) for row in csv.DictReader(handle)]


def shipped_attributions() -> list[Attribution]:
    """Every model that rooms of any split may hold, as recorded when the package was made."""
    return read_attributions(str(files("croco3d.data.synthetic").joinpath("attributions.csv")))
