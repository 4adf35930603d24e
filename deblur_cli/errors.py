"""What can go wrong, cut by what the user can do next.

DeblurError        exit 1
├── UsageError     exit 2   say it differently
├── InputError     exit 3   look at the photo or the folder
├── WeightsError   exit 4   look at the checkpoint or its source
└── DeviceError    exit 5   use less memory, or another device

The message says what happened, with which value, and what was expected; the hint begins with a verb, ideally the exact
words to type. Mistakes of our own are ``ValueError`` or ``TypeError`` and keep their traceback.
"""


class DeblurError(Exception):
    """Something the user can mend."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(DeblurError):
    """The words of the command do not fit together."""

    exit_code = 2


class InputError(DeblurError):
    """A photo or a folder is not what it should be."""

    exit_code = 3


class WeightsError(DeblurError):
    """A checkpoint is missing, altered, or of another kind."""

    exit_code = 4


class DeviceError(DeblurError):
    """The device is absent or its memory does not suffice."""

    exit_code = 5
