"""SeqIO sources, vocabulary and preprocessors: the only package with TensorFlow."""
