"""Text: read, checked, cleaned, encoded, and cut into batches."""
