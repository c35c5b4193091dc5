"""T5 as an encoder-decoder."""
