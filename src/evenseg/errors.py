"""The one exception that a user of the command line is meant to see."""


class InputError(Exception):
    """Something the user handed in is wrong: a file, a key, a value.

    The message is one plain sentence that names the file or key, the fault and the remedy.
    The command line prints it alone, without a traceback, and exits with code 2.
    """
