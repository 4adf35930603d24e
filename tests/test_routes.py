"""Which photo goes into which file: nothing is lost, nothing is overwritten, nothing is done twice."""

from pathlib import Path

import pytest

from deblur_cli.errors import InputError, UsageError
from deblur_cli.files import routes
from deblur_cli.files.routes import Naming, plan

JPEG = b"\xff\xd8\xff\xe0 as far as a header goes"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)


def pairs(*words: str, recursive: bool = False, **naming) -> list[tuple[str, str]]:
    found = plan(words, Naming(**naming), recursive=recursive)
    return [(each.source.as_posix(), each.target.as_posix()) for each in found.routes]


def test_a_result_lies_beside_its_photo_and_ends_in_sharp():
    make("a/b.jpg")
    assert pairs("a/b.jpg") == [("a/b.jpg", "a/b-sharp.jpg")]
    assert pairs("a/b.jpg", suffix="_x", format="png") == [("a/b.jpg", "a/b_x.png")]


def test_the_format_of_the_photo_keeps_its_own_spelling():
    make("a.JPEG")
    assert pairs("a.JPEG", format="jpg") == [("a.JPEG", "a-sharp.JPEG")]


def test_a_photo_without_an_ending_is_named_by_its_bytes():
    make("photo", "other.bin")
    assert pairs("photo", "other.bin") == [("photo", "photo-sharp.jpg"), ("other.bin", "other-sharp.jpg")]


@pytest.mark.parametrize("output", ["out/", "out", "there", "deep/er/"])
def test_a_folder_of_photos_goes_into_a_folder_under_its_own_names(output):
    Path("there").mkdir()
    make("in/b.jpg", "in/a.png", "in/c/d.jpg")
    folder = output.rstrip("/")
    assert pairs("in", output=output) == [("in/a.png", f"{folder}/a.png"), ("in/b.jpg", f"{folder}/b.jpg")]


@pytest.mark.parametrize("output", ["out/", "there"])
def test_one_photo_goes_into_a_folder_that_ends_in_a_slash_or_exists(output):
    Path("there").mkdir()
    make("a.jpg")
    assert pairs("a.jpg", output=output) == [("a.jpg", f"{output.rstrip('/')}/a.jpg")]


def test_recursion_mirrors_the_tree_so_that_equal_names_stay_apart():
    make("in/x/1.jpg", "in/y/1.jpg", "in/1.jpg")
    assert [target for _, target in pairs("in", recursive=True, output="out")] == [
        "out/1.jpg",
        "out/x/1.jpg",
        "out/y/1.jpg",
    ]
    assert [target for _, target in pairs("in", output="out")] == ["out/1.jpg"]


def test_an_output_folder_inside_the_input_folder_is_not_restored_again():
    make("in/a.jpg", "in/out/a.jpg")
    assert pairs("in", recursive=True, output="in/out", overwrite=True) == [("in/a.jpg", "in/out/a.jpg")]


def test_results_of_earlier_runs_are_left_out_only_beside_their_photos():
    make("in/a.jpg", "in/a-sharp.jpg", "in/a-sharp-compare.jpg", "in/a-compare.jpg", "in/razor-sharp.jpg")
    found = plan(["in"], Naming(output="out"))
    assert [each.source.name for each in found.routes] == ["a.jpg", "razor-sharp.jpg"]
    assert found.earlier == 3


def test_litter_is_left_out_silently_and_other_files_with_a_count():
    make("in/a.jpg", "in/.DS_Store", "in/._a.jpg", "in/Thumbs.db", "in/.cache/x.jpg", "in/notes.txt", "in/b.xmp")
    found = plan(["in"], Naming(), recursive=True)
    assert [each.source.name for each in found.routes] == ["a.jpg"]
    assert found.others == 2


def test_patterns_are_expanded_with_any_folders_between():
    make("in/a.jpg", "in/x/y/b.jpg", "in/x/notes.txt")
    found = plan(["in/**/*.*"], Naming())
    assert [each.source.as_posix() for each in found.routes] == ["in/a.jpg", "in/x/y/b.jpg"]
    assert found.others == 1


def test_a_pattern_leaves_the_output_folder_out_unless_it_begins_there():
    make("a.jpg", "x/b.jpg", "out/a.jpg")
    assert pairs("**/*.jpg", output="out/", skip_existing=True) == [("a.jpg", "out/a.jpg"), ("x/b.jpg", "out/b.jpg")]
    assert pairs("out/*.jpg", output="out/", suffix="_x") == [("out/a.jpg", "out/a_x.jpg")]
    assert pairs("**/b.jpg", output=".") == [("x/b.jpg", "b.jpg")]


def test_a_second_run_of_all_that_lies_here_does_not_take_the_results_for_photos():
    make("a.jpg", "out/b.jpg")
    assert pairs("a.jpg", "out", output="out/", skip_existing=True) == [("a.jpg", "out/a.jpg")]
    with pytest.raises(UsageError, match="would overwrite the photo"):
        pairs("out", output="out/", overwrite=True)
    assert len(pairs("a.jpg", "out", output="out", suffix="_x")) == 2


@pytest.mark.parametrize("word", [".png", "a/b.png", "tar.png", ""])
def test_a_format_is_a_bare_word(word):
    make("a.jpg")
    with pytest.raises(UsageError, match="cannot be written") as refused:
        pairs("a.jpg", format=word)
    assert refused.value.hint == "Say one of jpg, png, tif, webp, avif, bmp, heic."


def test_a_file_whose_name_looks_like_a_pattern_is_itself():
    make("a[1].jpg", "a1.jpg")
    assert pairs("a[1].jpg") == [("a[1].jpg", "a[1]-sharp.jpg")]


def test_a_photo_named_twice_is_restored_once():
    make("in/a.jpg", "in/b.jpg")
    assert [source for source, _ in pairs("in/b.jpg", "in", "./in/a.jpg")] == ["in/b.jpg", "in/a.jpg"]


def test_a_missing_photo_is_a_route_of_its_own_and_fails_when_it_is_read():
    make("a.jpg")
    assert len(pairs("a.jpg", "missing.jpg")) == 2


def test_a_compare_picture_lies_beside_the_result():
    make("a.jpg")
    assert plan(["a.jpg"], Naming(compare=True)).routes[0].compare == Path("a-sharp-compare.jpg")
    assert plan(["a.jpg"], Naming(compare=True, output="x/b.png")).routes[0].compare == Path("x/b-compare.png")


def test_existing_results_are_skipped_or_replaced_only_when_that_was_said():
    make("a.jpg", "b.jpg", "a-sharp.jpg")
    with pytest.raises(UsageError, match=r"'a-sharp.jpg' is there already"):
        plan(["a.jpg", "b.jpg"], Naming())
    assert [each.finished for each in plan(["a.jpg", "b.jpg"], Naming(skip_existing=True)).routes] == [True, False]
    assert [each.finished for each in plan(["a.jpg", "b.jpg"], Naming(overwrite=True)).routes] == [False, False]


def test_the_photo_itself_is_replaced_only_when_it_is_named_twice_and_overwrite_is_said():
    make("a.jpg")
    assert pairs("a.jpg", output="a.jpg", overwrite=True) == [("a.jpg", "a.jpg")]
    for naming in ({"output": "a.jpg"}, {"suffix": "", "overwrite": True}, {"output": "./", "overwrite": True}):
        with pytest.raises(UsageError, match=r"would overwrite the photo"):
            pairs("a.jpg", **naming)


def test_a_link_to_the_photo_is_the_photo():
    make("a.jpg")
    Path("link.jpg").symlink_to("a.jpg")
    with pytest.raises(UsageError, match="would overwrite the photo") as refused:
        pairs("a.jpg", output="link.jpg", overwrite=True)
    assert refused.value.hint == "Say -o a.jpg if that is meant."


def test_no_result_replaces_another_photo_of_the_batch():
    make("a.jpg", "in/a.png", "a.png")
    with pytest.raises(UsageError, match=r"'in/a.png' would overwrite the photo 'a.png'"):
        pairs("in/a.png", "a.png", output=".", overwrite=True)


@pytest.mark.parametrize(
    ("words", "naming", "hint"),
    [
        (("a.jpg", "a.png"), {"format": "png"}, "Leave out --format."),
        (("in/a.jpg", "a.jpg"), {"output": "out"}, "Restore them in two runs"),
        (("a.jpg", "a.png"), {"output": "out/", "format": "webp"}, "Leave out --format."),
    ],
)
def test_two_results_never_share_a_file(words, naming, hint):
    make("a.jpg", "a.png", "in/a.jpg")
    with pytest.raises(UsageError, match="would both be written to") as refused:
        pairs(*words, **naming)
    assert refused.value.hint.startswith(hint)


def test_spelling_in_capitals_collides_only_where_the_file_system_says_so(monkeypatch):
    make("in/a.jpg", "in/A.jpg")
    if Path("in/a.jpg").samefile("in/A.jpg"):
        pytest.skip("this file system takes both for one")
    assert len(pairs("in", output="out")) == 2
    monkeypatch.setattr(routes, "_folds_case", lambda path: True)
    with pytest.raises(UsageError, match="would both be written to"):
        pairs("in", output="out")


@pytest.mark.parametrize(
    ("words", "naming", "said"),
    [
        (("a.jpg",), {"output": "x"}, "does not end in a format"),
        (("a.jpg",), {"output": "x.cr2"}, "does not end in a format"),
        (("a.jpg", "b.jpg"), {"output": "x.jpg"}, "is one file; there are 2 photos"),
        (("in",), {"output": "x.jpg"}, "is one file; there is a folder"),
        (("a.jpg", "b.jpg"), {"output": "-"}, "takes one photo; there are 2"),
        (("a.jpg",), {"output": "x.png", "format": "jpg"}, "contradict"),
        (("a.jpg",), {"output": "x.png", "suffix": "-y"}, "--suffix means nothing"),
        (("a.jpg",), {"format": "cr2"}, "--format cr2"),
        (("a.jpg",), {"output": "notes.txt/"}, "is a file, not a folder"),
        (("a.jpg", "b.jpg"), {"output": "notes.txt"}, "is a file, not a folder"),
        (("-",), {"output": "in"}, "has no name"),
        (("-",), {"compare": True}, "--compare"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, naming, said):
    make("a.jpg", "b.jpg", "in/c.jpg")
    Path("notes.txt").touch()
    with pytest.raises(UsageError) as refused:
        pairs(*words, **naming)
    assert said in refused.value.message
    assert refused.value.hint.startswith(("Say ", "Leave "))


def test_a_result_that_is_a_folder_is_refused():
    make("a.jpg", "a-sharp.jpg/x.jpg")
    with pytest.raises(UsageError, match="is a folder"):
        pairs("a.jpg", overwrite=True)


@pytest.mark.parametrize(
    ("word", "said", "hint"),
    [
        ("empty", "There is no photo in 'empty'.", "Photos end in"),
        ("deep", "There is no photo in 'deep'", "Say -r"),
        ("none/*.jpg", "No file matches 'none/*.jpg'.", "Look at the pattern"),
    ],
)
def test_where_there_is_no_photo_a_sentence_says_so(word, said, hint):
    Path("empty").mkdir()
    make("deep/er/a.jpg")
    with pytest.raises(InputError) as refused:
        pairs(word)
    assert said in refused.value.message
    assert refused.value.hint.startswith(hint)


@pytest.mark.parametrize("word", ["x" * 5000, "a/" * 3000 + "x.jpg"])
def test_a_name_that_is_too_long_does_not_stop_the_others(word):
    make("a.jpg")
    assert len(pairs(word, "a.jpg", skip_existing=True)) == 2


def test_standard_input_goes_to_standard_output_or_to_a_file():
    streamed = plan(["-"], Naming()).routes[0]
    assert (streamed.source, streamed.target) == (None, None)
    assert plan(["-"], Naming(output="x.jpg")).routes[0].target == Path("x.jpg")


def test_a_folder_made_for_a_photo_that_fails_is_taken_away_again():
    Path("there").mkdir()
    with pytest.raises(ValueError, match="torn"), routes.folder(Path("there/new/er")):
        raise ValueError("torn")
    assert list(Path("there").iterdir()) == []
    with routes.folder(Path("there/new")):
        Path("there/new/a").touch()
    assert Path("there/new/a").exists()
