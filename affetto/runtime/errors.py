"""Every failure a user can meet, each with the exit code the command line gives for it.

A message is one line: what is wrong, in which file, and how to mend it.
"""


class AffettoError(Exception):
    """A failure inside affetto itself; the base of all others."""

    exit_code = 1


class UsageError(AffettoError, ValueError):
    """An argument is wrong: unknown emotion, impossible frame rate, output suffix nobody writes."""

    exit_code = 2


class InvalidInputError(AffettoError, ValueError):
    """A file or value that was given cannot be used: empty, truncated, silent, too long, not what it claims."""

    exit_code = 3


class MissingResourceError(AffettoError):
    """Weights or an optional package are missing; the message says how to get them."""

    exit_code = 4


class JobsFailedError(AffettoError):
    """Some jobs of a batch failed."""

    exit_code = 5


class OutOfMemoryError(AffettoError):
    """The device has too little memory for what was asked."""

    exit_code = 6


class PolicyError(AffettoError):
    """Refused by policy, for example a render of a real person without recorded consent."""

    exit_code = 7


class TryAgainError(AffettoError):
    """A passing condition, such as a locked store; the same call may succeed later."""

    exit_code = 75


class CancelledError(AffettoError):
    """The user interrupted the work."""

    exit_code = 130


def quoted(text: str, most: int = 60) -> str:
    """A user's own words as an error shows them: in quotes, in one line, the beginning of long ones."""
    text = text.strip()
    return repr(text if len(text) <= most else f"{text[:most]}...")


def error_of(exit_code: int, message: str) -> AffettoError:
    """The error of an exit code, as another process told it."""
    kinds = {kind.exit_code: kind for kind in AffettoError.__subclasses__()}
    return kinds.get(exit_code, AffettoError)(message)
