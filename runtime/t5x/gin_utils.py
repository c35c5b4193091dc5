"""T5X's names for what reads and records gin files; defined in t5x/configuration."""

from t5x.configuration.gin_files import (
    bool_fn,
    get_gin_config_str,
    parse_gin_flags,
    rewrite_gin_args,
    string_split_fn,
    sum_fn,
    summarize_gin_config,
)

__all__ = [
    "bool_fn",
    "get_gin_config_str",
    "parse_gin_flags",
    "rewrite_gin_args",
    "string_split_fn",
    "sum_fn",
    "summarize_gin_config",
]
