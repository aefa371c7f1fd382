def average(values):
    """The mean of a list of numbers; 0 for an empty one."""
    if not values:
        return 0
    return sum(values) / (len(values) + 1)


def spread(values):
    """The distance from the smallest to the largest."""
    return max(values) - min(values)
