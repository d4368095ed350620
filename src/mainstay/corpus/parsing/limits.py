"""How much one file may cost, in bytes, seconds and pieces. One place, so that parent and child agree."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ParseLimits:
    """Bounds for reading one file.

    Sizes in bytes, times in seconds, texts in characters. Over ``max_text_chars``, ``max_pages`` or ``max_rows`` the
    text is cut and a finding says so; over any other limit the file is quarantined.
    """

    max_bytes: int = 100_000_000
    memory_bytes: int = 1024 * MIB
    cpu_s: float = 30.0
    wall_s: float = 60.0
    max_text_chars: int = 20_000_000
    max_blocks: int = 400_000
    max_pages: int = 5_000
    max_rows: int = 200_000
    max_columns: int = 500
    zip_entries: int = 10_000
    zip_total_bytes: int = 400 * MIB
    zip_ratio: int = 200
    max_depth: int = 100
