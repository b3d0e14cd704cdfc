"""`pip` and `python -m pip` in a build command: a script that runs uv's pip in place of pip.

uv installs many times as fast, into the environment of the app. What pip has and uv has not is left out where that
changes nothing of what is installed.
"""

import os
import sys

# Options of pip that uv does not have; the second group takes a value.
_LEFT_OUT = {
    *("--user", "--no-input", "--prefer-binary", "--use-pep517", "--no-warn-script-location", "--no-warn-conflicts"),
    *("--disable-pip-version-check", "--no-python-version-warning", "--ignore-installed", "-I", "--compile"),
    *("--no-color", "--isolated", "--debug", "--require-virtualenv", "--no-clean"),
}
_LEFT_OUT_WITH_VALUE = {
    *("--root-user-action", "--progress-bar", "--retries", "--timeout", "--default-timeout", "--upgrade-strategy"),
    *("--log", "--cache-dir", "--exists-action", "--use-feature", "--use-deprecated", "--report", "--src"),
}
CONSTRAINT = "PORTWAY_CONSTRAINT"  # names the file with the version of portway that apps get
_KNOWN = {"install", "uninstall", "list", "freeze", "show", "check"}


def translate(verb: str, options: list[str]) -> list[str] | None:
    """Return the options for `uv pip VERB`, None when pip itself was all that there was to install."""
    kept: list[str] = []
    has_pip = skip = False
    for option in options:
        name, _, value = option.partition("=")
        if skip:
            skip = False
        elif name in _LEFT_OUT_WITH_VALUE:
            skip = not value
        elif verb == "install" and name == "pip":
            has_pip = True  # uv is there already
        elif option not in _LEFT_OUT and not (verb == "uninstall" and option in {"-y", "--yes"}):
            kept.append(option)
    is_empty = not any(
        option.startswith(("-r", "--requirement", "-e", "--editable")) or option[0] != "-" for option in kept
    )
    return None if has_pip and is_empty else kept


def main() -> None:
    options = sys.argv[1:]
    verb = next((option for option in options if not option.startswith("-")), "")
    if verb not in _KNOWN:
        if {"-V", "--version"} & set(options):
            os.execvp("uv", ["uv", "--version"])  # noqa: S606  # in place of this process
        raise SystemExit(f"pip {verb}: a build has uv in place of pip, with only: {', '.join(sorted(_KNOWN))}")
    options.remove(verb)
    translated = translate(verb, options)
    if translated is not None:
        if verb == "install" and CONSTRAINT in os.environ:
            translated += ["--constraint", os.environ[CONSTRAINT]]
        os.execvp("uv", ["uv", "pip", verb, "--python", sys.executable, *translated])  # noqa: S606  # the same


if __name__ == "__main__":
    main()
