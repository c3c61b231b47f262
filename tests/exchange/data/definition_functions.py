"""A spring, for definition.json."""


def strained(length, strain):
    return {"longer": length * (1 + strain), "both": [length, length * (1 + strain)]}


def energy(length, rest_length):
    return {"energy": (length - rest_length) ** 2}
