"""DATA: bytes to batch. Builders store encoded clips; clips says which frames; the loader decodes and batches."""
