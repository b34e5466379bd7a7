"""`python -m forethought`, and `torchrun -m forethought train ...` for several processes."""

from forethought.cli import main

if __name__ == "__main__":
    main()
