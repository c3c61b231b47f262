"""A module beside a notebook."""

import math

import odd_package.other as other

SCALE = [other.OTHER, 1]


def norm(vector):
    return math.sqrt(sum(x * x for x in vector))
