"""What is trained, seen and measured: the module of all parts, its probe and its ledger.

It knows parts by their interfaces alone, neither how they are named nor how often they step.
"""
