"""`python -m eyespot` is the command `eyespot`."""

import sys

from eyespot.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
