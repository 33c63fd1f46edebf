"""The data: the sets that vega_datasets carries inside its package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(name: str, date_column: str) -> pd.DataFrame:
    """Read a set by its vega_datasets name, indexed by its dates in ascending order (stable for equal dates).

    Raises RuntimeError for a set that is not in the package: vega_datasets would fetch that from the network.
    """
    from vega_datasets import data

    dataset = getattr(data, name)
    if not dataset.is_local:
        raise RuntimeError(f"vega_datasets does not carry {name} in its package")
    frame: pd.DataFrame = dataset(parse_dates=[date_column])
    return frame.set_index(date_column).sort_index(kind="stable")
