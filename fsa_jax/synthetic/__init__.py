"""A generated world of reviews with known opinions, and an oracle that teaches them.

``world`` draws reviews and labelled sentences from ``grammar`` over the lexicons in ``restaurants`` and ``laptops``,
``oracle`` writes teacher text for them, ``files`` puts both on disk in the layout of the released data (docs/demo.md).
"""
