"""What all command line programs share: flags by absl, bad input told in one sentence."""

import os
import sys
from collections.abc import Callable

from absl import app, flags

from keras_bert_tpu.config import InputError


def run(program: str, main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; `InputError` becomes one line and exit status 2.

    Args:
        program: str. Name of the command, put before the message.
        main: Callable without arguments; its flags are in `absl.flags.FLAGS`.
    """
    # TensorFlow's C++ start-up notices hide what the programs themselves have to say.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def checked(arguments: list[str]) -> None:
        try:
            if len(arguments) > 1:
                raise InputError(
                    f"Unexpected argument {arguments[1]!r}; all settings are flags, see "
                    f"{program} --help."
                )
            main()
        except InputError as error:
            print(f"{program}: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print(f"{program}: interrupted.", file=sys.stderr)
            sys.exit(130)

    app.run(checked, flags_parser=lambda argv: _parse(program, argv))


def _parse(program: str, argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except SystemExit as error:
        # absl leaves with 1 on a bad flag; 2 is the status of all bad input here.
        sys.exit(2 if error.code == 1 and not flags.FLAGS.is_parsed() else error.code)
