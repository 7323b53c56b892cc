"""The one exception for a user's mistake."""


class UsageError(ValueError):
    """Something a user can mend: a wrong path, key, value or file.

    The message is one sentence that names the file, scene, key or value and the way out. Commands print it after
    ``error:`` without a traceback and exit with status 2.
    """
