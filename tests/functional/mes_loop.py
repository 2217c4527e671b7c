"""Multi-Entropy Sampling as Eq. 10-11 say it, one class, zone and pixel after the other."""

from __future__ import annotations

import math


def zone_of(entropy, low, high, zones):
    """Eq. 10, the last zone closed."""
    length = (high - low) / zones
    if length == 0:
        return 0
    return min(math.floor((entropy - low) / length), zones - 1)


def take_of(members, wanted, zones, alpha, midpoint=False):
    """How many of each zone of one class are drawn, and the pixels of each zone; ``members`` are its entropies."""
    low, high = min(members), max(members)
    cells = [[] for _ in range(zones)]
    for i, e in enumerate(members):
        cells[zone_of(e, low, high, zones)].append(i)
    shares = []
    for z, cell in enumerate(cells):  # Eq. 11
        if cell:
            shares.append(1 / (alpha + sum(members[i] for i in cell) / len(cell)))
        elif midpoint:
            shares.append(1 / (alpha + low + (high - low) / zones * (z + 0.5)))
        else:
            shares.append(0.0)
    total = sum(shares)
    wanted = min(wanted, len(members))
    exact = [share / total * wanted for share in shares]
    quota = [math.floor(each) for each in exact]
    by_remainder = sorted(range(zones), key=lambda z: (-(exact[z] - quota[z]), z))
    for z in by_remainder[: wanted - sum(quota)]:
        quota[z] += 1
    return borrowed(quota, [len(cell) for cell in cells]), cells, shares


def borrowed(quota, there):
    """From the nearest zones, the lower side first."""
    zones = len(quota)
    taken = [min(q, n) for q, n in zip(quota, there, strict=True)]
    need = [q - t for q, t in zip(quota, taken, strict=True)]
    spare = [n - t for n, t in zip(there, taken, strict=True)]
    for distance in range(1, zones):
        for side in (-1, 1):
            for z in range(zones):
                other = z + side * distance
                if 0 <= other < zones:
                    moved = min(need[z], spare[other])
                    need[z] -= moved
                    spare[other] -= moved
                    taken[other] += moved
    return taken
