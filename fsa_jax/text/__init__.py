"""Text codecs: records to text and back, pure Python."""
