"""The order from the centre of a grid outwards."""


def spiral(rows: int, columns: int) -> list[int]:
    """Return the cells of a grid, numbered row by row, in a spiral from the centre outwards.

    It is the walk along the edges from the first cell inwards, clockwise, turned round, as in
    AstroPT (Smith et al., 2024), whose grids are square.
    """
    top, left, bottom, right = 0, 0, rows - 1, columns - 1
    inwards: list[tuple[int, int]] = []
    while top <= bottom and left <= right:
        inwards += [(top, column) for column in range(left, right + 1)]
        inwards += [(row, right) for row in range(top + 1, bottom + 1)]
        if top < bottom:
            inwards += [(bottom, column) for column in range(right - 1, left - 1, -1)]
        if left < right:
            inwards += [(row, left) for row in range(bottom - 1, top, -1)]
        top, left, bottom, right = top + 1, left + 1, bottom - 1, right - 1
    return [row * columns + column for row, column in reversed(inwards)]
