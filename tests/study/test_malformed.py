"""Files that nobody should have written: each gets one line and exit code 2, and no memory is filled."""

import copy
import os
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.errors import UserError
from harness.study.grid import recipes
from harness.study.spec import load_study
from tests.study.conftest import SOURCE, STUDY

SYNTHETIC = """
{kind: synthetic, width: 8, features: 16, tokens: 1000, held_out_tokens: 500, active: 2}
"""
BOMB = "".join(
    f"{name}: &{name} [{before}]\n"
    for name, before in zip("bcdefghij", (f"*{c}, " * 9 for c in "abcdefghi"), strict=True)
)
MERGE_BOMB = "".join(
    f"{n}: &{n}\n  <<: [{b}]\n" for n, b in zip("bcdefghij", (f"*{c}, " * 9 for c in "abcdefghi"), strict=True)
)


def changed(old: str, new: str, text: str = STUDY.lstrip()) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


def many(count: int) -> str:
    return f"[{', '.join(f'{number / 1024}' for number in range(count))}]"


# What the study file holds, and what its line says.
STUDIES: dict[str, tuple[str | bytes, str]] = {
    # No YAML, or no text.
    "nothing": ("", ":1: expected keys and values"),
    "spaces": ("  \n\n", ":1: expected keys and values"),
    "a comment": ("# to do\n", ":1: expected keys and values"),
    "null": ("~\n", ":1: expected keys and values"),
    "a word": ("study\n", ":1: expected keys and values"),
    "a list at the top": ("- question\n", ":1: expected keys and values"),
    "two documents": (STUDY + "---\n" + STUDY, "not YAML: but found another document"),
    "a tab": (changed("  k: 4", "\tk: 4"), ":5: not YAML: found character '\\t'"),
    "wrong indentation": (changed("  k: 4", "   k: 4"), "not YAML: "),
    "an open bracket": (changed("[0, 0.1]", "[0, 0.1"), "not YAML: "),
    "an open quote": (changed("What", "'What"), "not YAML: "),
    "a colon too many": (changed("What helps?", "What: helps?"), ":1: not YAML: "),
    "an unknown YAML version": ("%YAML 9.9\n---\n" + STUDY, "not YAML: "),
    "an unknown alias": (changed("k: 4", "k: *four"), ":5: not YAML: found undefined alias"),
    "an anchor twice": (changed("k: 4", "k: &a 4\n  aux_k: &a 5"), ":6: not YAML: "),
    "NUL": (b"question: a\0b\n", "expected text, got the character 0"),
    "random bytes": (bytes(range(256)), "expected UTF-8 text"),
    "latin-1": (changed("What", "Où").encode("latin-1"), "expected UTF-8 text"),
    "UTF-16": (STUDY.encode("utf-16"), "expected UTF-8 text"),
    "a pickle": (b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.", "expected UTF-8 text"),
    "deep lists": ("question: " + "[" * 3000 + "]" * 3000, "expected fewer levels of nesting"),
    "deep mappings": ("{a: " * 1500 + "1" + "}" * 1500, "expected fewer levels of nesting"),
    "too many bytes": ("# " + "x" * 300_000 + "\n" + STUDY, "expected at most 256 KiB, got 293"),
    # Tags, and what is no plain data.
    "a Python object": (
        changed("What helps?", "!!python/object/apply:os.system [exit]"),
        ":1: question: expected text",
    ),
    "a Python name": (changed("k: 4", "k: !!python/name:os.getcwd"), ":5: recipe.k: expected text, a number"),
    "an own tag": (changed("k: 4", "k: !env HOME"), ":5: recipe.k: expected text, a number, a list or"),
    "binary": (changed("What helps?", "!!binary aGVsbG8="), ":1: question: expected text, a number"),
    "a set": (changed("seeds: [0, 1]", "seeds: !!set {0, 1}"), ":15: seeds: expected text, a number"),
    "a date": (changed("What helps?", "2026-01-01"), ":1: question: expected text, a number"),
    "an impossible date": (changed("What helps?", "2026-99-99"), ":1: question: expected text, a number"),
    "text tagged as a number": (
        changed("k: 4", "k: !!int four"),
        ":5: recipe.k: expected a valid int, got 'four'",
    ),
    "text tagged as a truth": (
        changed("k: 4", "k: !!bool maybe"),
        ":5: recipe.k: expected a valid bool, got 'maybe'",
    ),
    "nothing tagged as a number": (
        changed("k: 4", "k: !!float ''"),
        ":5: recipe.k: expected a valid float, got ''",
    ),
    "the value key": (changed("k: 4", "k: ="), ":5: recipe.k: expected text"),
    # Aliases.
    "a billion laughs": (f"a: &a [ha, ha, ha, ha, ha]\n{BOMB}", "expected at most 50,000 keys and values"),
    "a billion merges": (f"a: &a {{k: 1}}\n{MERGE_BOMB}", "expected at most 50,000 keys and values"),
    "a list in itself": (
        changed("[none, dense 2-2]", "&a [*a]"),
        ":9: axes.layers[0]: expected a value, got an alias",
    ),
    "a mapping in itself": (
        changed("recipe:", "recipe: &r\n  k_start: *r"),
        ":4: recipe.k_start: expected a value",
    ),
    "a mapping merged into itself": (
        changed("recipe:", "recipe: &r\n  <<: *r"),
        ":4: recipe.<<: expected a value",
    ),
    "a merged number": (changed("  k: 4", "  <<: 4"), ":5: not YAML: expected a mapping"),
    # Keys.
    "a key twice": (changed("  k: 4", "  k: 4\n  'k': 5"), ":6: recipe.k: this key is here twice (line 5)"),
    "a list as key": ("? [a, b]\n: c\n" + STUDY, ":1: expected text as a key"),
    "a mapping as key": (changed("  k: 4", "  {a: b}: 4"), ":5: recipe: expected text as a key"),
    "a number as key": ("7: 7\n" + STUDY, "7: expected text as a key, got 7"),
    "null as key": ("~: 7\n" + STUDY, "expected text as a key, got None"),
    "an axis named by a number": (changed("  penalty:", "  1:"), "axes[1]: expected text, got 1"),
    "a recipe key of two lines": (changed("  k: 4", '  "a\\nb": 4'), ":5: recipe.'a\\nb': unknown key"),
    "a key that moves the cursor": ('"\\e[2Jx": 1\n' + STUDY, ":1: '\\x1b[2Jx': expected printable text"),
    "an endless key": (f"{'x' * 900}: 1\n" + STUDY, ": unknown key"),
    "an unknown key": ("workers: 3\n" + STUDY, "workers: unknown key; expected one of question, source"),
    "a missing key": (changed("seeds: [0, 1]\n", ""), "seeds: this key is missing"),
    # Values.
    "half a character": (changed("What helps?", '"\\uD800"'), ":1: question: expected printable text"),
    "a value that moves the cursor": (changed("k: 4", 'k: "\\e[31m"'), ":5: recipe.k: expected printable text"),
    "a number as question": (changed("What helps?", "42"), ":1: question: expected text, got 42"),
    "a list as recipe": (
        changed("  latents: 64\n  k: 4\n  tokens: 1000\n  batch: 100", "  [1]"),
        ":3: recipe: expected keys and values",
    ),
    "a list as axes": (
        "question: q\nsource: source.yaml\nrecipe: {}\naxes: [k]\nseeds: [0]\n",
        ":4: axes: expected keys and v",
    ),
    "null as axis": (
        changed("penalty: [0, 0.1]", "penalty:"),
        ":10: axes.penalty: expected a list of values, or keys and values",
    ),
    "a mapping in a list": (changed("[0, 0.1]", "[0, {a: 1}]"), ":10: axes.penalty[1]: expected a number"),
    "truth as a number": (changed("k: 4", "k: yes"), ":5: recipe.k: expected a whole number, got 'yes'"),
    "a fraction as a count": (changed("k: 4", "k: 4.5"), ":5: recipe.k: expected a whole number, got 4.5"),
    "not a number": (changed("[0, 0.1]", "[.nan]"), ":10: axes.penalty[0]: expected a finite number, got nan"),
    "infinity": (changed("latents: 64", "latents: .inf"), ":4: recipe.latents: expected a whole number, got inf"),
    "an infinite learning rate": (changed("1e-3", "1e400"), "adam[0]: expected a finite number, got inf"),
    "a negative seed": (
        changed("seeds: [0, 1]", "seeds: [-1]"),
        ":15: seeds[0]: expected at least 0",
    ),
    "a seed beyond 32 bits": (
        changed("seeds: [0, 1]", "seeds: [4294967296]"),
        ":15: seeds[0]: expected less than 429",
    ),
    "no axes": ("question: q\nsource: source.yaml\nrecipe: {}\naxes: {}\nseeds: [0]\n", ":4: axes: expected "),
    "NaN as a level": (
        changed("optimizer: {adam", "optimizer: {.nan: [1], adam"),
        ":14: axes.lr.when.optimizer.nan",
    ),
    # What YAML 1.1 would read as something else.
    "a leading zero": (
        changed("k: 4", "k: 010"),
        ":5: recipe.k: expected a number without leading zeros, got 010",
    ),
    "an octal number": (changed("k: 4", "k: 0o10"), ":5: recipe.k: expected a whole number, got '0o10'"),
    "minutes": (changed("k: 4", "k: 1:30"), ":5: recipe.k: expected a whole number, got '1:30'"),
    "tagged minutes": (changed("k: 4", "k: !!int 1:30"), ":5: recipe.k: expected a valid int, got '1:30'"),
    "a truth as a number": (changed("k: 4", "k: true"), ":5: recipe.k: expected a whole number, got true"),
    "yes as a truth": (changed("tune: true", "tune: yes"), ":13: axes.lr.tune: expected true or false, got 'yes'"),
    "null in a list": (changed("[0, 0.1]", "[0, ~]"), ":10: axes.penalty[1]: expected a number, got nothing"),
    # Two levels for one.
    "no layers twice": (
        changed("dense 2-2", "sparse 1"),
        ":9: axes.layers: expected settings that differ, 'sparse 1, penalty 0, adam, lr 0.001' trains the same",
    ),
    "widths twice": (
        changed("none, dense 2-2", "dense 2-2, dense 2.0-2.0"),
        "trains the same as 'dense 2-2, penalty 0, adam",
    ),
    "proportions twice": (
        changed("none, dense 2-2", "sparse 2, sparse 3-3"),
        "trains the same as 'sparse 2, penalty 0, adam",
    ),
    # Absurd sizes.
    "a count beyond 64 bits": (
        changed("tokens: 1000", f"tokens: 1{'0' * 30}"),
        ":6: recipe.tokens: expected a whole",
    ),
    "a count of 5,000 digits": (
        changed("tokens: 1000", f"tokens: {'9' * 5000}"),
        ":6: recipe.tokens: expected a valid int",
    ),
    "a long hexadecimal": (
        changed("tokens: 1000", f"tokens: 0x{'f' * 6000}"),
        ":6: recipe.tokens: expected a whole",
    ),
    "a text of 100,000 letters": (
        changed("k: 4", f"k: {'x' * 100_000}"),
        ":5: recipe.k: expected a whole number",
    ),
    "infinitely wide layers": (
        changed("dense 2-2", f"dense {'9' * 400}-2"),
        ":9: axes.layers[1]: expected at most 100",
    ),
    "1,000 layers": (
        changed("dense 2-2", f"dense {'2-' * 999}2"),
        ":9: axes.layers[1]: expected at most 100 layers",
    ),
    "a huge grid": (
        changed("[0, 0.1]", many(4000)).replace("  optimizer:", f"  weight_decay: {many(4000)}\n  optimizer:"),
        ":11: axes.weight_decay: expected at most 100,000 cells",
    ),
    "a huge grid with one factor": (
        changed("[0, 0.1]", many(4000)).replace("seeds: [0, 1]", f"design: one_factor\nseeds: {list(range(40))}"),
        ":10: axes.penalty: expected at most 100,000 cells",
    ),
    "many seeds": (changed("seeds: [0, 1]", f"seeds: {list(range(20_000))}"), ": expected at most 100,000 cells"),
    # The source it names.
    "no source": (changed("source.yaml", "nowhere.yaml"), ":2: source: expected a source file, "),
    "a folder as source": (changed("source.yaml", "."), "expected a file, got a folder"),
    "an empty source": (changed("source.yaml", "''"), ":2: source: expected a source file, got ''"),
    "a source of two lines": (
        changed("source.yaml", '"a\\nb"'),
        ":2: source: expected a source file, got 'a\\nb'",
    ),
    "a source with NUL": (changed("source.yaml", '"a\\0b"'), ":2: source: expected printable text"),
    "an endless source": (changed("source.yaml", "x" * 5000), ":2: source: expected a source file"),
    "a device as source": (changed("source.yaml", "/dev/zero"), "/dev/zero: expected a file"),
    "the study itself as source": (
        changed("source.yaml", "study.yaml"),
        "study.yaml:1: kind: this key is missing",
    ),
}

# What the source file holds, and what its line says.
SOURCES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", ":1: expected keys and values"),
    "a list": ("- corpus\n", ":1: expected keys and values"),
    "binary": (b"\xff\xfe", "expected UTF-8 text"),
    "a billion laughs": (f"a: &a [ha, ha]\n{BOMB}", "expected at most 50,000 keys and values"),
    "both kinds": (
        SOURCE + "active: 2\n",
        ":6: active: 'kind: docstrings' has no such key, only 'kind: synthetic'",
    ),
    "no kind": ("text: x\n", ":1: kind: this key is missing; expected one of docstrings, pretrained, synthetic"),
    "an unknown kind": (
        changed("docstrings", "hub", SOURCE),
        ":2: kind: expected one of docstrings, pretrained, synthetic, got",
    ),
    "an unknown key": (changed("context", "contxt", SOURCE), "contxt: unknown key; did you mean 'context'?"),
    "a text as list": (
        changed("[rich]", "rich", SOURCE),
        ":3: corpus.packages: expected a list, got 'rich'",
    ),
    "no width": (changed("width: 16", "width: 0", SOURCE), ":4: language_model.width: expected at least"),
    "an infinite rate": (
        changed("1e-3", ".inf", SOURCE),
        ":4: language_model.lr: expected a finite number, got inf",
    ),
    "NaN": (changed("1e-3", ".nan", SOURCE), ":4: language_model.lr: expected a finite number, got nan"),
    "a pickle tag": (
        changed("[rich]", "!!python/tuple [rich]", SOURCE),
        ":3: corpus.packages: expected text, a number",
    ),
    "too many features": (
        changed("active: 2", "active: 9", SYNTHETIC),
        ":2: active: expected at most 8",
    ),
    "NaN features": (
        changed("active: 2", "active: .nan", SYNTHETIC),
        ":2: active: expected a finite number",
    ),
    "its own name": (
        SYNTHETIC.replace("width", "name: other, width"),
        "name: unknown key; a source is named by its file",
    ),
}


def refusal(path, capsys) -> str:
    """What the command line says of a study file; checks that it is one line with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(path.parent), "plan", str(path)])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    line = err.removesuffix("\n")
    assert line.isprintable(), line
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("kind", STUDIES)
def test_a_malformed_study_gets_one_line(tmp_path, capsys, kind):
    content, expected = STUDIES[kind]
    (tmp_path / "source.yaml").write_text(SOURCE)
    path = tmp_path / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refusal(path, capsys)
    assert line.startswith(("harness: " + str(tmp_path), "harness: /dev/zero"))
    assert expected in line


@pytest.mark.parametrize("kind", SOURCES)
def test_a_malformed_source_gets_one_line(tmp_path, capsys, kind):
    content, expected = SOURCES[kind]
    (tmp_path / "source.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "study.yaml").write_text(STUDY)
    line = refusal(tmp_path / "study.yaml", capsys)
    assert line.startswith(f"harness: {tmp_path / 'source.yaml'}:")
    assert expected in line


def test_what_is_no_readable_file_gets_one_line(tmp_path, capsys):
    assert "No such file or directory" in refusal(tmp_path / "study.yaml", capsys)
    assert "File name too long" in refusal(tmp_path / f"{'x' * 300}.yaml", capsys)
    (tmp_path / "folder.yaml").mkdir()
    assert refusal(tmp_path / "folder.yaml", capsys).endswith("folder.yaml: expected a file, got a folder")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert refusal(tmp_path / "pipe.yaml", capsys).endswith("pipe.yaml: expected a file")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert "loop.yaml: Too many levels of symbolic links" in refusal(tmp_path / "loop.yaml", capsys)
    (tmp_path / "secret.yaml").write_text(STUDY)
    (tmp_path / "secret.yaml").chmod(0)
    if os.geteuid():  # root reads everything
        assert refusal(tmp_path / "secret.yaml", capsys).endswith("secret.yaml: Permission denied")


def test_anchors_and_merges_of_a_sane_size_are_yaml_too(tmp_path):
    (tmp_path / "source.yaml").write_text(SOURCE)
    text = changed("  k: 4\n", "  <<: {k: 2, aux_k: 8}\n  k: &four 4\n", changed("[0, 1]", "[0, *four]"))
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    assert (study.base.k, study.base.aux_k, study.seeds) == (4, 8, (0, 4))


def test_one_factor_at_a_time_is_counted_as_such(write_study):
    """All settings of these axes together are millions, of which this design asks for 57."""
    wholes = ("aux_k", "aux_weight", "k_start", "gradient_clip", "dead_window", "penalty")
    lines = "".join(f"  {name}: [1, 2, 3, 4]\n" for name in wholes)
    lines += "  batch: [16, 32, 64, 128]\n"
    lines += "".join(f"  {name}: [0.1, 0.2, 0.3, 0.4]\n" for name in ("warmup", "decay"))
    path = write_study(("  penalty: [0, 0.1]\n", lines), ("seeds:", "design: one_factor\nseeds:"))
    assert len(recipes(load_study(path))) == 2 * (1 + 1 + 9 * 3) + 1


def loads_or_refuses(folder, study: bytes, source: bytes) -> None:
    """Whatever stands in the two files: a study whose settings can be listed, or one line."""
    (folder / "study.yaml").write_bytes(study)
    (folder / "source.yaml").write_bytes(source)
    try:
        recipes(load_study(folder / "study.yaml"))
    except UserError as error:
        line = str(error)
        assert line.startswith(str(folder)) or line.startswith("/"), line
        assert line.isprintable(), line


@given(
    st.sampled_from(["study", "source"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5), st.binary(max_size=6)), min_size=1, max_size=8),
)
def test_changed_bytes_make_no_traceback(tmp_path_factory, which, changes):
    files = {"study": STUDY.encode(), "source": SOURCE.encode()}
    content = files[which]
    for place, removed, put in changes:
        at = int(place * len(content))
        content = content[:at] + put + content[at + removed :]
    loads_or_refuses(tmp_path_factory.mktemp("bytes"), **{**files, which: content})


NUMBERS = [-1, 0, 1, 2**31, 2**64, 10**40, -0.5, 1e-320, 1e308, float("inf"), float("nan")]
TEXTS = [
    "",
    " ",
    "none",
    "../x",
    "~",
    "[red]",
    "a\nb",
    "\x1b[0m",
    "\u202e",
    "\0",
    "seed",
    "dense 1e9-2",
    "x" * 999,
]
KEYS = st.sampled_from([None, True, *NUMBERS, *TEXTS])
ODD = KEYS | st.sampled_from(
    [[], {}, [[]], [None], {"": ""}, {1: 2}, [0, 0], list(range(50)), {"values": [1]}, {"when": {}}]
).map(copy.deepcopy)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Paths of everything below a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, below in inner for found in ((*path, key), *places(below, (*path, key)))]


@given(st.sampled_from(["study", "source"]), st.data())
def test_a_changed_structure_makes_no_traceback(tmp_path_factory, which, data):
    files = {
        "study": yaml.safe_load(STUDY),
        "source": yaml.safe_load(data.draw(st.sampled_from([SOURCE, SYNTHETIC]))),
    }
    for _ in range(data.draw(st.integers(1, 4))):
        with suppress(IndexError):  # of nothing that is left
            *outer, key = data.draw(st.sampled_from(places(files[which]) or [("question",)]))
            place = files[which]
            for part in outer:
                place = place[part]
            change = data.draw(st.sampled_from(["replace", "remove", "rename", "graft"]))
            value = place.pop(key, None) if isinstance(place, dict) else place.pop(key)
            match change:
                case "replace":
                    value = data.draw(ODD)
                case "graft":
                    value = copy.deepcopy(files[data.draw(st.sampled_from(sorted(files)))])
                case "rename" if isinstance(place, dict):
                    key = data.draw(KEYS)
            if change != "remove":
                place.__setitem__(key, value) if isinstance(place, dict) else place.insert(key, value)
    dumped = {
        name: yaml.safe_dump(content, allow_unicode=data.draw(st.booleans())) for name, content in files.items()
    }
    loads_or_refuses(tmp_path_factory.mktemp("structure"), **{k: v.encode() for k, v in dumped.items()})
