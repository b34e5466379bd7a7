"""Settings found by trying: a search over a method's settings, small grids, and the best of a few good recipes."""
