"""What happens in a run: the loop, what moves weights, many processes, checkpoints, costs.

How parts are built stands in `runs`, what they compute in `model`.
"""
