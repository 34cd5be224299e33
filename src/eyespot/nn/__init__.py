"""Building blocks that know tensors and nothing about models."""
