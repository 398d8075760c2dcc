"""What encoders share: transformer blocks, positions, tables, merging, averages.

Modules over packed rows that know neither streams nor objectives.
"""
