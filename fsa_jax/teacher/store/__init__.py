"""The store of generations: a journal and append-only Parquet parts, in one folder per shard.

``parts`` has the schema of a row and the Parquet files; ``shard_files`` tells which files of a shard count, and has the
journal that stores each generation as soon as it arrives; ``writer`` adds to a shard (only one job may do so at a
time); ``reader`` reads all shards. docs/teacher.md shows the layout.
"""
