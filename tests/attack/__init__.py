"""An attack on Forethought: kills, flipped bits and malformed inputs, on a folder of its own. `make attack` runs it."""
