"""Which sample comes when: shares, order, splits, and the loader that packs a batch.

What a record holds is for readers and tokenizers; nothing here asks the model.
"""
