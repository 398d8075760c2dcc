"""What everyone stands on: errors, files, devices, ranks.

Nothing here knows what a token is.
"""
