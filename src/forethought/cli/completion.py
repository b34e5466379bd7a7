"""forethought completion"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from forethought.cli.shared import parse

OPTION = re.compile(r"^[^\w\n-]{0,4}(?:-\w, )?(--[a-z][\w.-]*(?:, --[a-z][\w.-]*)*)(?: \[?(\{[\w.,-]+\})?)?", re.M)
WIDE = "400"  # columns: no option is broken over two lines


@dataclass(kw_only=True)
class Completion:
    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional, tyro.conf.arg(metavar="SHELL")]
    """Which shell: bash, zsh or fish."""


@dataclass
class Words:
    """What may follow a verb, or a verb and what it names first (a method, a study).

    Attributes:
        options: each with the values it chooses from; none where it takes anything, or nothing.
        first: what may stand right behind the verb.
    """

    options: dict[str, list[str]]
    first: list[str] = field(default_factory=list)


def run(arguments: list[str]) -> None:
    about = (
        "Print what completes verbs, methods, options and their values in a shell.\n\n"
        "bash: forethought completion bash > ~/.local/share/bash-completion/completions/forethought\n"
        "zsh:  forethought completion zsh >> ~/.zshrc\n"
        "fish: forethought completion fish > ~/.config/fish/completions/forethought.fish\n\n"
        "Example: source <(forethought completion bash)"
    )
    shell = parse(Completion, arguments, "completion", about).shell
    words = _words()
    sys.stdout.write(_fish(words) if shell == "fish" else _bash(words, zsh=shell == "zsh"))


def _words() -> dict[str, Words]:
    """What may follow each verb, read off the help of each, which thereby stays the one place that says so."""
    from forethought import recipes
    from forethought.cli import VERBS
    from forethought.data.public.known import KNOWN
    from forethought.studies.catalogue import STUDIES

    words = {verb: Words(_options(verb)) for verb in VERBS if verb not in ("completion", "train", "study")}
    words["download"].first = ["list", *KNOWN]
    words["completion"] = Words({"--help": []}, ["bash", "zsh", "fish"])
    words["study"] = Words(_options("study", next(iter(STUDIES))), list(STUDIES))
    words["train"] = Words({"--help": []}, list(recipes.METHODS))
    return words | {f"train {name}": Words(_options("train", name)) for name in recipes.METHODS}


def _options(verb: str, *named: str) -> dict[str, list[str]]:
    said = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDE
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            importlib.import_module(f"forethought.cli.{verb}").run([*named, "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    found: dict[str, list[str]] = {}
    for names, choices in OPTION.findall(said.getvalue()):
        values = choices.strip("{}").split(",") if choices else []
        found |= dict.fromkeys(names.split(", "), values)
    return found


def _bash(words: dict[str, Words], *, zsh: bool) -> str:
    """A function that looks up what stands before the cursor; zsh reads it through its own emulation."""
    verbs = " ".join(verb for verb in words if " " not in verb)
    first = "".join(f"    {verb}) echo '{' '.join(each.first)}' ;;\n" for verb, each in words.items() if each.first)
    options = "".join(f"    '{verb}') echo '{' '.join(each.options)}' ;;\n" for verb, each in words.items())
    values = "".join(
        f"    '{verb} {option}') echo '{' '.join(choices)}' ;;\n"
        for verb, each in words.items()
        for option, choices in each.options.items()
        if choices
    )
    head = "autoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{head}# Made by: forethought completion {"zsh" if zsh else "bash"}
_forethought_first() {{
  case "$1" in
{first}  esac
}}
_forethought_options() {{
  case "$1" in
{options}  esac
}}
_forethought_values() {{
  case "$1" in
{values}  esac
}}
_forethought() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" about="${{COMP_WORDS[1]}}" choices=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    choices="{verbs}"
  else
    if [ "$about" = train ] && [ "$COMP_CWORD" -gt 2 ]; then about="train ${{COMP_WORDS[2]}}"; fi
    choices="$(_forethought_values "$about $prev")"
    if [ -z "$choices" ]; then
      case "$cur" in
        -*) choices="$(_forethought_options "$about")" ;;
        *) if [ "$COMP_CWORD" -eq 2 ]; then choices="$(_forethought_first "$about")"; fi ;;
      esac
    fi
  fi
  COMPREPLY=( $(compgen -W "$choices" -- "$cur") )
}}
complete -o default -F _forethought forethought
"""


def _fish(words: dict[str, Words]) -> str:
    from forethought.cli import VERBS

    lines = ["# Made by: forethought completion fish"]
    lines += [f"complete -c forethought -f -n __fish_use_subcommand -a {verb} -d '{VERBS[verb]}'" for verb in VERBS]
    for about, each in words.items():
        seen = " && ".join(f"__fish_seen_subcommand_from {word}" for word in about.split())
        if each.first:
            unsaid = f"{seen} && not __fish_seen_subcommand_from {' '.join(each.first)}"
            lines.append(f"complete -c forethought -f -n '{unsaid}' -a '{' '.join(each.first)}'")
        for option, choices in each.options.items():
            values = f" -x -a '{' '.join(choices)}'" if choices else ""
            lines.append(f"complete -c forethought -n '{seen}' -l {option.removeprefix('--')}{values}")
    return "\n".join(lines) + "\n"
