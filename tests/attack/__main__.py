"""`python -m attack` (with tests/ on PYTHONPATH): attack the Forethought that is imported, and report."""

from attack.command import main

if __name__ == "__main__":
    main()
