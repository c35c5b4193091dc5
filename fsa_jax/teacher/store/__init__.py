"""The store of generations: a journal and append-only Parquet parts, in one folder per shard.

``rows`` has the schema; ``journal`` stores each generation as soon as it arrives; ``parts`` are the Parquet files into
which journals are converted; ``writer`` adds to a shard (only one job may do so at a time); ``reader`` reads all
shards. docs/teacher.md shows the layout.
"""

from fsa_jax.teacher.store.errors import StoreError
from fsa_jax.teacher.store.reader import StoreReader, generations
from fsa_jax.teacher.store.rows import SCHEMA, StoredGeneration
from fsa_jax.teacher.store.writer import ShardWriter

__all__ = ["SCHEMA", "ShardWriter", "StoreError", "StoreReader", "StoredGeneration", "generations"]
