"""Bytes and messages → `Encoded`: fetch, decode, resize, patches, chat, tokenizer. Pure, picklable, no model."""
