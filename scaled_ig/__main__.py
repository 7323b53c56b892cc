"""``python -m scaled_ig`` is the program."""

from scaled_ig.cli import main

if __name__ == "__main__":
    main()
