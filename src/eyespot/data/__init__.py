"""Rows of the world's formats → examples → samples → packed batches, with a ledger of every row. No model."""
