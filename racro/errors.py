"""The base class of errors that users can fix: bad recipe, bad data, bad model name, unusable root.

One subclass per kind of mistake, defined where the mistake is found. The message is one line that names the file, field
or row and the remedy. The command line prints it and exits with 2.
"""


class BadInput(ValueError):
    """Something the user gave cannot be used."""
