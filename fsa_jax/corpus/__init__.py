"""From checked teacher text to a corpus to learn from: which rows, which are held out, and what is in it."""
