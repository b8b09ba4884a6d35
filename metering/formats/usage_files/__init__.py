"""Usage files: CSV with a header, JSON objects one per line, or Parquet. A row is an event, a correction too.

rows       the three formats -> rows, in bounded memory; what is no row is a refusal of its line
parquet    the third of them
drafts     which column holds what; rows -> drafts
"""

from metering.formats.usage_files.drafts import (
    RESERVED_FIELDS,
    UsageFile,
    drafts,
    event_lines,
    look_over,
    look_over_lines,
    shift_to,
    survey,
)
from metering.formats.usage_files.rows import SUFFIXES, Row, UnusableFile, format_of

__all__ = [
    "RESERVED_FIELDS",
    "SUFFIXES",
    "Row",
    "UnusableFile",
    "UsageFile",
    "drafts",
    "event_lines",
    "format_of",
    "look_over",
    "look_over_lines",
    "shift_to",
    "survey",
]
