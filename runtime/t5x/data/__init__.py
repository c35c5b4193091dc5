"""Training and evaluation data: SeqIO tasks as batches, and the position in them; the only place with TensorFlow."""
