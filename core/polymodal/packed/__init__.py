"""What a batch is: layouts, tokens, vectors, and attention over them.

No segment is padded; whatever has a row a token follows its layout.
"""
