"""SeqIO sources, vocabularies and preprocessors. The only package that imports TensorFlow."""
