"""Encoders: pictures and text to embeddings."""
