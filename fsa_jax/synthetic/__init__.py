"""A generated world: reviews with known opinions, and an oracle teacher for them.

``world`` draws reviews and labelled sentences with ``grammar`` and the lexicons in ``restaurants`` and ``laptops``.
``oracle`` writes teacher text about them. ``files`` writes all of these to disk in the layout of the released data
(docs/demo.md).
"""
