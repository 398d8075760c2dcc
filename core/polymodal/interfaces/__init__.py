"""What a plugin implements: tokenizer, encoder, objective, and the small kinds beside them.

Abstract classes and what is handed to them; no implementation of one.
"""
