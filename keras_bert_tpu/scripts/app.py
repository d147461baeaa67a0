"""What all command line programs share: flags by absl, help that teaches, errors in a sentence."""

import importlib.metadata
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import app, flags

from keras_bert_tpu.config import INPUT_FORMATS, InputError

if TYPE_CHECKING:
    from keras_bert_tpu.tpu.connect import Connection

_HELP_FLAGS = ("-h", "-help", "--help", "--helpshort", "--helpfull")


def run(
    program: str,
    usage: str,
    define_flags: Callable[[flags.FlagValues], None],
    main: Callable[[], None],
    argument: str | None = None,
    rest: str | None = None,
) -> None:
    """Runs a program; bad input becomes one line on standard error and exit status 2.

    Args:
        program: str. Name of the command, put before messages.
        usage: str. What --help shows above the flags.
        define_flags: Callable that defines the program's flags in the given values. It is called
            here and not on import, so that programs can be imported side by side.
        main: Callable without arguments; its flags are in `absl.flags.FLAGS`.
        argument: str or None. A flag that must be given, and may be so without its name, anywhere
            among the other flags. None takes nothing without a name.
        rest: str or None. A flag of several values that takes all that stands behind `--`. None
            takes nothing there.
    """
    # TensorFlow's C++ notices, "failed call to cuInit" on every machine without a GPU among them,
    # hide what the programs have to say; what goes wrong is raised as a Python exception too. Those
    # of its import do not heed the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if any(argument in _HELP_FLAGS for argument in sys.argv[1:]):
        print(f"{usage.strip()}\n\nFlags:\n{_describe_flags(define_flags)}")
        sys.exit(0)
    define_flags(flags.FLAGS)
    # Or else absl takes all that follows a value without a name for such values, too.
    flags.FLAGS.set_gnu_getopt(True)

    def checked(arguments: list[str]) -> None:
        try:
            if argument is not None:
                arguments = _take_argument(argument, arguments)
                if flags.FLAGS[argument].value is None:
                    raise InputError(f"--{argument} must be given. See {program} --help.")
            if len(arguments) > 1:
                raise InputError(
                    f"Unexpected argument {arguments[1]!r}; all settings are flags, see "
                    f"{program} --help."
                )
            _check_tpu_library()
            if "tpu" in flags.FLAGS and flags.FLAGS["tpu"].value not in (None, "local"):
                # The TPU is another process's, on a pod of one that may be on this very machine,
                # and TensorFlow would take it as soon as it is imported.
                os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
            _import_tensorflow()
            main()
            sys.stdout.flush()
        except InputError as error:
            _fail(program, str(error))
        except BrokenPipeError:
            # Who reads the output, `head` for example, has seen enough. What is still to be written
            # when the program ends goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"{program}: interrupted.", file=sys.stderr)
            sys.exit(130)

    def parse(argv: list[str]) -> list[str]:
        if rest is not None and "--" in argv:
            end = argv.index("--")
            argv, behind = argv[:end], argv[end + 1 :]
            arguments = _parse(program, argv)
            setattr(flags.FLAGS, rest, [*flags.FLAGS[rest].value, *behind])
            return arguments
        return _parse(program, argv)

    app.run(checked, flags_parser=parse)


def _import_tensorflow() -> None:
    """Imports TensorFlow without the notices that it writes meanwhile."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _check_tpu_library() -> None:
    """Raises InputError where TensorFlow's import would end the process without a word.

    tensorflow-tpu looks up each function that it may call of libtpu, and aborts where one is
    gone. Seen with 2.20.0: libtpu 0.0.17 to 0.0.31 are whole, 0.0.35 and 0.0.52 are not.
    """
    try:
        build, library = (importlib.metadata.version(name) for name in ("tensorflow-tpu", "libtpu"))
    except importlib.metadata.PackageNotFoundError:
        return
    numbers = [int(number) for number in re.findall(r"\d+", library)[:3]]
    if build.startswith("2.20.") and numbers > [0, 0, 31]:
        raise InputError(
            f"tensorflow-tpu {build} cannot be imported beside libtpu {library}, in which "
            f"functions that it needs are gone; install an older one: pip install 'libtpu<=0.0.31'."
        )


def whole_numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """Returns the values of a flag that lists whole numbers.

    Raises:
        InputError: If one is none, or 0.
    """
    if not all(text.strip().isdigit() and int(text) for text in texts):
        raise InputError(
            f"--{flag} must be whole numbers greater than 0, for example 32,64. Received: "
            f"{','.join(texts)!r}."
        )
    return [int(text) for text in texts]


def define_tpu_flags(values: flags.FlagValues) -> None:
    """Defines --tpu and where it is, the same for every program that computes."""
    flags.DEFINE_string(
        "tpu",
        None,
        "'local' on a TPU VM, a TPU's name or its grpc:// address. Without it: GPUs, else CPU.",
        flag_values=values,
    )
    flags.DEFINE_string("zone", None, "Cloud zone of a TPU given by name.", flag_values=values)
    flags.DEFINE_string(
        "project", None, "Cloud project of a TPU given by name.", flag_values=values
    )


def connect(program: str, paths: Sequence[str]) -> "Connection":
    """Connects to what `define_tpu_flags` names, and tells what it is.

    Args:
        program: str. Put before a warning.
        paths: What is read and written much; a warning tells of buckets in other regions.
    """
    from keras_bert_tpu.tpu.buckets import region_warning
    from keras_bert_tpu.tpu.connect import connect

    values = flags.FLAGS
    connection = connect(values.tpu, values.zone, values.project)
    print(f"Running on {connection.description}.", flush=True)
    told = {region_warning(path, values.tpu, values.zone): None for path in paths}
    for sentence in filter(None, told):
        print(f"{program}: {sentence}", file=sys.stderr)
    return connection


def define_text_flags(values: flags.FlagValues) -> None:
    """Defines the flags that name text, the same for every program that reads some."""
    flags.DEFINE_list(
        "input", None, "Text files, plain or .gz: paths or quoted globs.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "tfds",
        [],
        "Set of tensorflow-datasets to read, NAME[/CONFIG][:VERSION][@SPLIT], for example "
        "wikipedia/20230601.en@train; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "tfds_folder",
        "",
        "Folder of those sets. Default: TFDS_DATA_DIR, or else ~/tensorflow_datasets.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "input_format",
        "auto",
        INPUT_FORMATS,
        "sentences: one on a line, a blank line between documents. documents: one on a line. "
        "jsonl: an object with a document on a line. auto: by the name of the file.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "text_field",
        "text",
        "Name of the document's text in jsonl and in tensorflow-datasets.",
        flag_values=values,
    )


def _take_argument(name: str, arguments: list[str]) -> list[str]:
    """Gives the first value without a name to the flag; the flag given by its name goes first."""
    if len(arguments) < 2 or flags.FLAGS[name].present:
        return arguments
    setattr(flags.FLAGS, name, arguments[1])
    return [arguments[0], *arguments[2:]]


def _parse(program: str, argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        message = " ".join(str(error).split())
        missing = re.findall(r"Flag (--\w+) must have a value other than None", message)
        if missing:
            message = f"{', '.join(missing)} must be given."
        _fail(program, f"{message} See {program} --help.")


def _fail(program: str, message: str) -> None:
    print(f"{program}: {message}", file=sys.stderr)
    sys.exit(2)


def _describe_flags(define_flags: Callable[[flags.FlagValues], None]) -> str:
    values = flags.FlagValues()  # Of its own: without the flags that absl adds to every program.
    define_flags(values)
    lines = []
    for name in values:
        flag = values[name]
        prefix = "[no]" if flag.boolean else ""
        default = str(flag.default).lower() if flag.boolean else flag.default
        default = "" if default in (None, [], "") else f" Default: {default}."
        # absl's own remark on flags that may be repeated, which the help has in its own words.
        text = re.sub(r";\s*repeat this option.*", "", flag.help, flags=re.DOTALL)
        lines.append(
            textwrap.fill(
                f"--{prefix}{name}: {text}{default}",
                width=96,
                initial_indent="  ",
                subsequent_indent="      ",
            )
        )
    return "\n".join(lines)
