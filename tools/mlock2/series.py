#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Write the patches to send, from the overlay in this repository.

series.py [--onto TREE] OUT

Reads tools/mlock2/series/, which has a directory for each series, with cover.txt
and one text for each patch, in order. A text is the message of the patch. Below a
line '%%', it has rules for the parts of the overlay that go into the patch:

    path ~ regex        the added lines of the file that match
    path                the rest of the file: no such rule and no earlier patch has it
    + name.diff         a temporary change that is not in the overlay ...
    - name.diff         ... until this patch reverts it
    !path               nothing of this file, whatever other rules say

So the state after each patch follows from the overlay and cannot drift from it: a
rule that matches nothing is an error, and so is a line that no patch has taken.
left-out.txt lists the parts that are not sent, in the same form.

For a series of existing patches (mm-fixes/, rust-arch/), a text 'patches' has their
paths.
"""

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TEXTS = TOP / "tools/mlock2/series"
LINUX = Path(os.environ["LINUX"])
# Parts of this repository that are not for the kernel
OURS = ("tools/mlock2/", "tools/testing/mlock2/")


def die(text):
    sys.exit(f"series: error: {text}")


def git(*args, stdin=None, index=None, env=None, check=True):
    """Runs git in the kernel tree and returns what it prints."""
    environ = dict(os.environ, **(env or {}))
    if index:
        environ["GIT_INDEX_FILE"] = str(index)
    done = subprocess.run(
        ["git", "-C", str(LINUX), *args],
        input=stdin,
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    if done.returncode and check:
        die(f"git {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout if check else done


class Author:
    """The sender, from git's config."""

    def __init__(self):
        self.name, self.email = (self.config(key) for key in ("user.name", "user.email"))
        self.signed = f"Signed-off-by: {self.name} <{self.email}>"
        # The same input makes the same patches.
        date = subprocess.check_output(["git", "-C", TOP, "log", "-1", "--format=%aI"], text=True).strip()
        self.env = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.name), ("EMAIL", self.email), ("DATE", date))
        }

    @staticmethod
    def config(key):
        done = subprocess.run(["git", "-C", TOP, "config", key], capture_output=True, text=True, check=False)
        if not done.stdout.strip():
            die(f"git config has no {key}: it is needed for the author and the Signed-off-by of each patch")
        return done.stdout.strip()


class Tree:
    """Makes trees in a separate index, with only the files that change.

    Reading and writing the whole kernel tree takes seconds each time."""

    def __init__(self):
        self.index = LINUX / ".git/series.index"
        self.last = None

    def start(self, tree):
        if tree != self.last:
            git("read-tree", tree, index=self.index)
            self.last = tree

    def cut(self, tree, paths):
        """Returns a tree with only PATHS."""
        git("read-tree", "--empty", index=self.index)
        git("update-index", "--index-info", stdin=git("ls-tree", "-r", tree, "--", *paths), index=self.index)
        return self.write()

    def write(self):
        self.last = git("write-tree", index=self.index).strip()
        return self.last

    def apply(self, tree, patch, *options):
        self.start(tree)
        done = git("apply", "--cached", *options, "-", stdin=patch, index=self.index, check=False)
        return None if done.returncode else self.write()

    def put(self, tree, files):
        """The tree with some files replaced: path -> (mode, text), or None to remove it."""
        self.start(tree)
        lines = []
        for path, file in files.items():
            if file is None:
                lines.append(f"0 {'0' * 40}\t{path}")
                continue
            mode, text = file
            blob = git("hash-object", "-w", "--stdin", stdin=text).strip()
            lines.append(f"{mode} {blob}\t{path}")
        git("update-index", "--add", "--index-info", stdin="\n".join(lines) + "\n", index=self.index)
        return self.write()


class File:
    """The changes of the overlay to one file, split into pieces for patches."""

    def __init__(self, base, final, path):
        self.path = path
        self.old = self.lines(base)
        self.new_file = self.old is None
        self.old = self.old or []
        self.mode = git("ls-tree", final, "--", path).split()[0]
        # (line of the old file, lines removed, lines added)
        self.hunks = []
        diff = git("diff", "-U0", "--no-renames", base, final, "--", path)
        for part in re.split(r"^(?=@@ )", diff, flags=re.M)[1:]:
            head, *body = part.split("\n")[:-1] if part.endswith("\n") else part.split("\n")
            start, count = re.match(r"@@ -(\d+)(?:,(\d+))?", head).groups()
            start, count = int(start), int(count if count is not None else 1)
            added = [line[1:] for line in body if line.startswith("+")]
            self.hunks.append((start - 1 if count else start, count, added))
        # the patch that has taken each added line
        self.owner = [[None] * max(len(added), 1) for _, _, added in self.hunks]

    def lines(self, tree):
        done = git("cat-file", "blob", f"{tree}:{self.path}", check=False)
        return None if done.returncode else done.stdout.split("\n")[:-1]

    def take(self, number, regex):
        """Assigns to patch NUMBER the matches of REGEX, or everything left."""
        taken = 0
        for (_, removed, added), owner in zip(self.hunks, self.owner):
            if regex is None:
                for i, has in enumerate(owner):
                    if has is None:
                        owner[i] = number
                        taken += 1
                continue
            text = "\n".join(added)
            for match in re.finditer(regex, text, flags=re.M):
                first = text.count("\n", 0, match.start())
                last = text.count("\n", 0, max(match.end() - 1, match.start()))
                if match.end() == len(text):
                    last = len(owner) - 1
                if removed:
                    # Lines that replace a line stay together.
                    first, last = 0, len(owner) - 1
                for i in range(first, last + 1):
                    if owner[i] not in (None, number):
                        die(f"{self.path}: '{added[i]}' is taken by two patches ({regex})")
                    taken += owner[i] is None
                    owner[i] = number
        return taken

    def left(self):
        return [
            (added[i] if added else "(lines removed)")
            for (_, _, added), owner in zip(self.hunks, self.owner)
            for i, has in enumerate(owner)
            if has is None
        ]

    def at(self, number):
        """The file after patch NUMBER, or None if it is not there yet."""
        out, line, there = [], 0, not self.new_file
        for (start, removed, added), owner in zip(self.hunks, self.owner):
            out += self.old[line:start]
            line = start
            if removed and owner[0] > number:
                continue
            line += removed
            some = [text for text, has in zip(added, owner) if has <= number]
            there = there or bool(some)
            out += some
        out += self.old[line:]
        return (self.mode, "".join(f"{text}\n" for text in out)) if there else None


class Text:
    """A message, and the rules for the content of the patch."""

    def __init__(self, path):
        self.name = path.stem
        message, _, rules = path.read_text().partition("\n%%\n")
        self.message = message.strip() + "\n"
        self.rules = [line.strip() for line in rules.splitlines() if line.strip() and not line.startswith("#")]

    def take(self, files, number, temporary, lines):
        """Applies the rules: those about lines first, for all patches."""
        files = {path: file for path, file in files.items() if not any(fnmatch.fnmatch(path, rule[1:]) for rule in self.rules if rule[0] == "!")}
        for rule in self.rules:
            if rule[0] == "!":
                continue
            if rule[0] in "+-":
                if lines:
                    continue
                name = rule[1:].strip()
                start, _ = temporary.get(name, (number, None))
                if rule[0] == "+":
                    temporary[name] = (number, None)
                else:
                    temporary[name] = (start, number)
                continue
            path, _, regex = (part.strip() for part in rule.partition(" ~ "))
            if bool(regex) != lines:
                continue
            found = fnmatch.filter(files, path)
            taken = sum(files[name].take(number, regex or None) for name in found)
            if not taken:
                die(f"{self.name}: the rule '{rule}' matches nothing")


def message(text, author):
    text = text.strip()
    return f"{text}\n{'' if re.search(r'^[A-Z][a-z-]+: .*', text.splitlines()[-1]) else chr(10)}{author.signed}\n"


def commit(tree, parent, text, author):
    return git("commit-tree", tree, "-p", parent, stdin=message(text, author), env=author.env).strip()


def from_patches(directory, base, author, trees):
    """A series of existing patches."""
    tip = base
    for name in (directory / "patches").read_text().split():
        patch = (TOP / name).read_text()
        head, _, rest = patch.partition("\n---\n")
        subject = re.search(r"^Subject: (?:\[.*?\] )?(.*(?:\n .*)*)", head, flags=re.M).group(1).replace("\n", "")
        body = head.partition("\n\n")[2]
        tree = trees.apply(git("rev-parse", f"{tip}^{{tree}}").strip(), rest)
        if not tree:
            die(f"{name} does not apply")
        tip = commit(tree, tip, f"{subject}\n\n{body}", author)
    return tip


def from_overlay(directory, base, final, author, trees):
    """The series that is generated from the overlay."""
    paths = git("diff", "--name-only", "--no-renames", base, final).split()
    files = {path: File(base, final, path) for path in paths}
    texts = [Text(path) for path in sorted(directory.glob("[0-9]*.txt"))]
    temporary = {}
    never = len(texts) + 1
    left_out = Text(TEXTS / "left-out.txt")
    for lines in (True, False):
        left_out.take(files, never, temporary, lines)
        for number, text in enumerate(texts, 1):
            text.take(files, number, temporary, lines)
    left = [f"{path}: {line}" for path, file in files.items() for line in file.left()]
    if left:
        die("no patch contains these lines of the overlay:\n  " + "\n  ".join(left[:40]))
    for name, (_, end) in temporary.items():
        if end is None:
            die(f"{name} is never taken back, so that the sum is not the overlay")
    # Files that only a temporary change touches stay as they were
    other = {}
    for name in temporary:
        for path in re.findall(r"^\+\+\+ b/(.*)$", (directory / name).read_text(), flags=re.M):
            if path not in files:
                other[path] = (git("ls-tree", base, "--", path).split()[0], git("cat-file", "blob", f"{base}:{path}"))
    tip, tree = base, git("rev-parse", f"{base}^{{tree}}").strip()
    before = {}
    touched = {path for name in temporary for path in re.findall(r"^\+\+\+ b/(.*)$", (directory / name).read_text(), flags=re.M)}
    for number, text in enumerate(texts, 1):
        now = {path: file.at(number) for path, file in files.items()} | other
        tree = trees.put(tree, {path: file for path, file in now.items() if path in other or path in touched or before.get(path) != file})
        before = now
        for name, (start, end) in temporary.items():
            if start <= number < end:
                tree = trees.apply(tree, (directory / name).read_text())
                if not tree:
                    die(f"{text.name}: {name} does not apply")
        tip = commit(tree, tip, text.message, author)
    # The patches and the left-out parts add up to the overlay.
    whole = trees.put(tree, {path: file.at(never) for path, file in files.items()})
    if whole != git("rev-parse", f"{final}^{{tree}}").strip():
        die("the sum of the patches is not the overlay")
    return tip


def fill(text, directory):
    """Inserts tables and sections from pages of the repository, and numbers of patches."""
    names = [path.name for path in sorted(directory.glob("[0-9]*.txt"))]

    def number(match):
        if match.group(1) not in names:
            die(f"cover: {directory} has no {match.group(1)}")
        return str(names.index(match.group(1)) + 1)

    def replace(match):
        what, path, name = match.group(1), *match.group(2).split(None, 1)
        page = (TOP / path).read_text()
        if what == "table":
            return table(page, name, path)
        section = re.search(rf"^{re.escape(name)}\n[=-]+\n\n(.*?)(?=^\S[^\n]*\n[=-]{{4,}}\n|\Z)", page, flags=re.M | re.S)
        if not section:
            die(f"cover: {path} has no section '{name}'")
        return section.group(1).strip()

    text = re.sub(r"@number (\S+\.txt)", number, text)
    return re.sub(r"^@(table|section) (.*)$", replace, text, flags=re.M)


def table(page, name, path):
    """Returns a table from the results page, with its command."""
    section = re.search(rf"^{re.escape(name)}\n=+\n\n(.*?)(?=^\S[^\n]*\n=+\n|\Z)", page, flags=re.M | re.S)
    if not section:
        die(f"cover: {path} has no section '{name}': 'make results' writes it")
    made = re.search(r"^``(.*)``, (.*)\.$", section.group(1), flags=re.M)
    rows = [row.strip().split("\t") for row in section.group(1).split(":delim: tab\n\n")[1].split("\n\n")[0].splitlines()]
    width = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, width))) for row in rows]
    return f"({made.group(1)}, {made.group(2)})\n\n" + "\n".join(f"  {line.rstrip()}" for line in lines)


def write(out, name, base, tip, cover, author):
    """format-patch, with the cover letter filled in. Returns the patches."""
    where = out / name
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    options = ["--cover-letter"] if cover else []
    git("-c", "diff.algorithm=histogram", "format-patch", "-q", "-n", "--no-signature", *options,
        "-o", str(where), f"{base}..{tip}", env=author.env)
    if cover:
        subject, _, blurb = fill(cover, TEXTS / name).strip().partition("\n\n")
        letter = next(where.glob("0000-*"))
        text = letter.read_text().replace("*** SUBJECT HERE ***", subject).replace("*** BLURB HERE ***", blurb)
        letter.unlink()
        (where / "0000-cover-letter.patch").write_text(text)
    return sorted(path for path in where.glob("*.patch") if not path.name.startswith("0000-"))


def onto(tree, name, patches):
    """Reports which patches do not apply to another tree, and where."""
    work = LINUX.parent / "series/onto"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    touched = {line.split("\t")[2] for patch in patches for line in git("apply", "--numstat", str(patch)).splitlines()}
    for path in sorted(touched):
        if (Path(tree) / path).exists():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(tree) / path, work / path)
    conflicts = 0
    for patch in patches:
        done = subprocess.run(["patch", "-p1", "-N", "--no-backup-if-mismatch", "-i", str(patch)], cwd=work,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            conflicts += 1
            print(f"not ok - {name}/{patch.name} on {tree}")
            print("\n".join(f"#   {line}" for line in done.stdout.splitlines() if "FAILED" in line or "ignored" in line))
    print(f"# {name}: {conflicts} of {len(patches)} patches conflict with {tree}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--onto", help="another kernel tree: report conflicts there")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out = args.out.resolve()
    author, trees = Author(), Tree()
    changed = git("diff", "--name-only", "--no-renames", "pristine", "HEAD", "--", ".", *(f":!{path}" for path in OURS)).split()
    start = trees.cut("pristine", changed)
    pristine = git("commit-tree", start, stdin="pristine\n", env=author.env).strip()
    final = trees.cut("HEAD", changed)
    for directory in ("net", "mips", "rust"):
        for name in reversed((TEXTS / directory / "patches").read_text().split()):
            final = trees.apply(final, (TOP / name).read_text(), "-R")
            if not final:
                die(f"{name} cannot be taken back from the overlay")
    named = {name for path in TEXTS.glob("*/patches") for name in path.read_text().split()}
    for path in [*TOP.glob("mm-fixes/*.patch"), *TOP.glob("rust-arch/*.patch")]:
        if str(path.relative_to(TOP)) not in named:
            die(f"{path.relative_to(TOP)} is in no series: name it in tools/mlock2/series/*/patches")

    written = {}
    fixes = from_patches(TEXTS / "mm-fixes", pristine, author, trees)
    tips = {"mm-fixes": (pristine, fixes)}
    tips["mlock2"] = (fixes, from_overlay(TEXTS / "mlock2", fixes, final, author, trees))
    for name in ("rust", "mips", "net"):
        tips[name] = (pristine, from_patches(TEXTS / name, pristine, author, trees))
    for name, (base, tip) in tips.items():
        cover = TEXTS / name / "cover.txt"
        written[name] = write(args.out, name, base, tip, cover.read_text() if cover.exists() else None, author)
        print(f"{name}: {len(written[name])} patches in {args.out / name}")
        if args.onto:
            onto(args.onto, name, written[name])


if __name__ == "__main__":
    main()
