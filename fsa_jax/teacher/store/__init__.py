"""The store of generations: append-only Parquet parts behind a journal, one folder for each shard.

``rows`` is the schema, ``journal`` keeps a generation from the moment it is there, ``parts`` are the Parquet files
that journals are folded into, ``writer`` is the one job that may add to a shard, ``reader`` is for everyone else.
docs/teacher.md shows the layout.
"""

from fsa_jax.teacher.store.errors import StoreError
from fsa_jax.teacher.store.reader import StoreReader, generations
from fsa_jax.teacher.store.rows import SCHEMA, StoredGeneration
from fsa_jax.teacher.store.writer import ShardWriter

__all__ = ["SCHEMA", "ShardWriter", "StoreError", "StoreReader", "StoredGeneration", "generations"]
