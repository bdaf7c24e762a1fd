"""A process that runs tests: what pytest-xdist has an interpreter do (execnet's bootstrap, from standard input)."""

import sys

if __name__ == "__main__":
    exec(eval(sys.stdin.readline()))
