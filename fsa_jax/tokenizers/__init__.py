"""Text to a student's token ids and back, without TensorFlow: T5's SentencePiece models and chat templates."""
