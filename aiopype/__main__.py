"""`python -m aiopype`."""

from aiopype.cli import main

if __name__ == "__main__":
    main()
