"""Test that tables are read in any usual spelling, or refused with line and cause."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
from pathlib import Path

import pytest

from data_io.datasets import DataSet, list_images, listed_gallery, load_dataset
from data_io.records import NO_LABEL

HEADER = "path,label,split"
ROWS = ("i/a.jpg,사과,train", "i/b.jpg,tea,query", "i/c.jpg,tea,gallery", "i/d.jpg,,gallery")
LINES = (HEADER, *ROWS)
FILES = ("i/a.jpg", "i/b.jpg", "i/c.jpg", "i/d.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_files(tmp_path, *FILES)


def with_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(folder: Path, text: str, encoding: str = "utf-8", name: str = "p.csv") -> DataSet:
    (folder / name).write_bytes(text.encode(encoding))
    return load_dataset(folder / name)


def refusal(folder: Path, text: str | bytes) -> str:
    (folder / "p.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        load_dataset(folder / "p.csv")
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{folder / 'p.csv'}")
    return message.removeprefix(f"{folder / 'p.csv'}").lstrip(":, ")


def workbook() -> bytes:
    """Return a file that starts as a workbook of Excel does."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    return content.getvalue()


def assert_read(data: DataSet) -> None:
    """Check that the data are those of LINES."""
    assert data.class_names == ("tea", "사과")
    assert [images.ids.tolist() for images in (data.train, data.query, data.gallery)] == [
        ["i/a"],
        ["i/b"],
        ["i/c", "i/d"],
    ]
    assert data.gallery.labels.tolist() == [0, NO_LABEL]
    assert data.skipped == ()


# --- separators, line ends, encodings


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize(
    ("separator", "name"), [(",", ""), (";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_separator_and_line_ends_are_found(
    folder: Path, separator: str, name: str, end: str
) -> None:
    data = read(folder, end.join(line.replace(",", separator) for line in LINES))
    assert_read(data)
    assert data.notes == ((f"p.csv: cells are separated by {name}",) if name else ())


@pytest.mark.parametrize("suffix", ["tsv", "txt", "CSV"])
def test_other_endings_of_tables_are_read(folder: Path, suffix: str) -> None:
    assert_read(read(folder, "\n".join(LINES).replace(",", "\t"), name=f"p.{suffix}"))


def test_the_separator_of_excels_first_line_is_used(folder: Path) -> None:
    assert_read(read(folder, "\n".join(["sep=;", *LINES]).replace(",", ";")))


def test_lines_in_quotes_as_a_whole_are_read(folder: Path) -> None:
    data = read(folder, "\n".join(f'"{line}"' for line in LINES))
    assert_read(data)
    assert data.notes == ("p.csv: each line is in quotes as a whole; they are left out",)


def test_a_spreadsheet_is_answered_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "p.xlsx").write_bytes(workbook())
    with pytest.raises(ValueError, match=r"p.xlsx: a spreadsheet; save it as CSV UTF-8"):
        load_dataset(tmp_path / "p.xlsx")


def test_a_comma_in_a_cell_does_not_decide_about_the_separator(folder: Path) -> None:
    text = f"path;label;split\ni/a.jpg;tea, with milk, 1,5 l;train\n{ROWS[1].replace(',', ';')}"
    assert read(folder, text).class_names == ("tea", "tea, with milk, 1,5 l")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8-sig", ""),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp949", "cp949"),
    ],
)
def test_encodings_are_found_and_named(folder: Path, encoding: str, shown: str) -> None:
    data = read(folder, "\n".join(LINES), encoding)
    assert_read(data)
    note = f"p.csv: read as {shown}, as it is not UTF-8"
    assert data.notes == ((note,) if shown else ())


@pytest.mark.parametrize("label", ["café", "Käse", "crème brûlée", "Ärger"])
def test_latin_letters_are_not_read_as_korean(folder: Path, label: str) -> None:
    data = read(folder, f"{HEADER}\ni/a.jpg,{label},train\n", "latin-1")
    assert data.class_names == (label,)
    assert data.notes == ("p.csv: read as Latin-1 (cp1252), as it is not UTF-8",)


def test_a_wrong_byte_in_utf8_is_refused_instead_of_garbling_the_other_lines(folder: Path) -> None:
    content = "\n".join(LINES).encode() + "\ni/d.jpg,café,gallery".encode("latin-1")
    assert refusal(folder, content).startswith("line 6: not UTF-8 (")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (workbook(), "a zip file or an Excel workbook, not a text; save the table as CSV"),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook, not a text"),
        (f"{HEADER}\ni/a\0.jpg,1,train\n".encode(), "line 2: a NUL byte after 'i/a': the file is"),
        ("\n".join(LINES).encode("utf-16")[:-1], "damaged utf-16 (truncated data at byte "),
    ],
)
def test_files_that_are_no_text_are_refused(folder: Path, content: bytes, message: str) -> None:
    assert message in refusal(folder, content)


# --- header


@pytest.mark.parametrize(
    ("header", "note"),
    [
        (" Path , LABEL ,\ufeffSplit", ""),
        ("\ufeff\ufeffpath,label,split", ""),
        ("ï»¿path,label,split", ""),
        ("path,label,split\x1a", ""),
        ("# path,label,split", ""),
        ("filename,label,split", "column filename is read as path"),
        ("Image Path,label,split", "column Image Path is read as path"),
        ("path,product_id,split", "column product_id is read as label"),
        ("path,class,split", "column class is read as label"),
        ("path,label,subset", "column subset is read as split"),
    ],
)
def test_other_names_of_columns_are_known(folder: Path, header: str, note: str) -> None:
    data = read(folder, "\n".join([header, *ROWS]))
    assert_read(data)
    assert data.notes == ((f"p.csv: {note}",) if note else ())


def test_the_exact_name_of_a_column_wins(folder: Path) -> None:
    rows = [f"{row},x.jpg,class {number}" for number, row in enumerate(ROWS)]
    assert_read(read(folder, "\n".join([f"{HEADER},image,class", *rows])))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label,label,split", "2 columns can be the column label: label, label. Keep one"),
        ("path,label,split,Label", "2 columns can be the column label: label, Label."),
        ("file,image,label,split", "2 columns can be the column path: file, image."),
        ("where,label,split", "no column path. The first line must name the columns; found where"),
    ],
)
def test_doubled_and_unknown_columns_are_refused(folder: Path, header: str, message: str) -> None:
    assert refusal(folder, header + "\ni/a.jpg,1,train,x\n").startswith(message)


# --- rows


def test_comments_are_left_out_and_counted(folder: Path) -> None:
    lines = ["# my products, 2024", HEADER, *ROWS, "# the end", "#"]
    data = read(folder, "\n".join(lines))
    assert_read(data)
    assert data.notes == ("p.csv: 3 comment lines (#) left out",)


def test_a_name_can_start_with_a_number_sign(folder: Path) -> None:
    with_files(folder, "#1.jpg")
    assert read(folder, f"{HEADER}\n#1.jpg,tea,train\n").train.ids.tolist() == ["#1"]


def test_white_space_quotes_and_empty_cells_at_the_end_do_not_matter(folder: Path) -> None:
    rows = [" , ".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS]
    lines = [f"{HEADER},,", *(f" {row} ,,,," for row in rows), ",,,,", "   "]
    assert_read(read(folder, "\r\n".join(lines)))


def test_a_cell_can_be_long_or_have_several_lines(folder: Path) -> None:
    rows = [f'{row},"{"x" * 200_000}\n, and more"' for row in ROWS]
    assert_read(read(folder, "\n".join([f"{HEADER},text", *rows])))


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ((ROWS[0], '"i/b.jpg,tea,query', ROWS[2], ROWS[3]), 3),
        ((ROWS[0], 'i/b.jpg,"tea,query', ROWS[2], 'i/d.jpg,"x,gallery'), 3),
        ((ROWS[0], 'i/b.jpg,"tea,query', ROWS[2], 'i/d.jpg,x",gallery'), 3),
        (('i/a.jpg,tea,"train', *ROWS[1:]), 2),
        ((*ROWS[:3], 'i/d.jpg,tea,"gallery'), 5),
    ],
)
def test_an_open_quote_is_refused_with_its_line(
    folder: Path, rows: tuple[str, ...], line: int
) -> None:
    message = refusal(folder, "\n".join([HEADER, *rows]))
    assert message.startswith(f'line {line}: a quote (") is opened here and not closed')


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ((HEADER + ',"note', ROWS[0] + ',"x', ROWS[1] + ",x"), 1),
        ((HEADER + ',"note', ROWS[0] + ',x"', ROWS[1] + ",x"), 1),
        ((HEADER + ",note", ROWS[0] + ',"x', ROWS[1] + ",x", ROWS[2] + ',x"'), 2),
        ((HEADER + ",note", ROWS[0] + ',"x', ROWS[1] + ',x"y"', ROWS[2] + ",x"), 2),
    ],
)
def test_an_open_quote_in_another_column_is_refused(
    folder: Path, lines: tuple[str, ...], line: int
) -> None:
    message = refusal(folder, "\n".join(lines))
    assert message.startswith(f'line {line}: a quote (") is opened here and not closed')


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("i/b.jpg", "line 3: 1 cell for 3 columns; missing: label, split."),
        ("i/b.jpg,oat, milk,query", "line 3: 4 cells for 3 columns; put a value with a comma in"),
        ("i/b.jpg;tea;query", "line 3: 1 cell for 3 columns; missing: label, split."),
    ],
)
def test_rows_of_another_length_are_refused(folder: Path, row: str, message: str) -> None:
    assert refusal(folder, "\n".join([HEADER, ROWS[0], row])).startswith(message)


@pytest.mark.parametrize("label", ["", "  ", "\u200b", '""'])
def test_an_empty_label_is_no_label(folder: Path, label: str) -> None:
    data = read(folder, f"{HEADER}\ni/a.jpg,tea,gallery\ni/b.jpg,{label},gallery\n")
    assert data.class_names == ("tea",) and data.gallery.labels.tolist() == [0, NO_LABEL]


def test_labels_that_programs_write_for_missing_values_are_named(folder: Path) -> None:
    for label in ("nan", "-1", "Unknown"):
        rows = [f"i/a.jpg,{label},train", f"i/b.jpg,{label},query", "i/c.jpg,tea,gallery"]
        data = read(folder, "\n".join([HEADER, *rows]))
        assert sorted(data.class_names) == sorted([label, "tea"])
        note = f"2 rows have the label '{label}'; if it means no label, leave the cell empty"
        assert data.notes == (f"p.csv: {note}",)


def test_groups_that_are_written_in_two_ways_are_named(folder: Path) -> None:
    rows = [f"{row},{group}" for row, group in zip(ROWS, ("Shop", "shop", "kiosk", ""))]
    data = read(folder, "\n".join([f"{HEADER},group", *rows]))
    assert_read(data)
    assert data.notes == (
        "groups that differ only in how they are written: 'Shop' (1 images) and 'shop' "
        "(1 images): upper and lower case",
    )


# --- splits


@pytest.mark.parametrize(
    "words",
    [
        ("Train", "QUERY", "Gallery"),
        ("training", "probe", "reference"),
        ("train", "test", "gallery"),
        ("train", "val", "gallery"),
        ("train", "queries", "test"),
    ],
)
def test_other_words_for_the_splits_are_known(folder: Path, words: tuple[str, ...]) -> None:
    text = "\n".join(LINES)
    for word, other in zip(("train", "query", "gallery"), words, strict=True):
        text = text.replace(f",{word}", f",{other}")
    data = read(folder, text)
    assert_read(data)
    assert bool(data.notes) == bool({"val", "test"} & set(words))


def test_of_val_and_test_the_chosen_one_gives_the_queries(folder: Path) -> None:
    lines = [HEADER, ROWS[0], "i/b.jpg,tea,val", "i/d.jpg,tea,test", ROWS[2]]
    data = read(folder, "\n".join(lines))
    assert data.query.ids.tolist() == ["i/b"]
    assert data.notes == (
        "p.csv: split val (1 rows) is read as query",
        "p.csv: split test (1 rows) is not used",
    )
    assert load_dataset(folder / "p.csv", query_split="test").query.ids.tolist() == ["i/d"]


def test_val_or_test_without_queries_and_gallery_is_refused(folder: Path) -> None:
    message = refusal(folder, f"{HEADER}\ni/a.jpg,tea,train\ni/b.jpg,tea,test\n")
    assert message.startswith("column split has train, test, which does not say what to search")


@pytest.mark.parametrize("columns", ["path", "path,label", "path,split", "path,label,split"])
def test_work_without_labels_needs_only_paths(folder: Path, columns: str) -> None:
    cells = {"path": "i/{}.jpg", "label": "{}", "split": "{}"}
    rows = zip("abcd", "xX1X", ("train", "val", "test", "train"), strict=True)
    lines = [
        ",".join(
            cells[column].format(cell) for column, cell in zip(cells, row) if column in columns
        )
        for row in rows
    ]
    (folder / "p.csv").write_text("\n".join([columns, *lines]))
    assert sorted(list_images(folder / "p.csv").ids) == ["i/a", "i/b", "i/c", "i/d"]
    assert listed_gallery(folder / "p.csv").images.ids.tolist() == ["i/a", "i/b", "i/c", "i/d"]


# --- files


def test_backslashes_are_turned(folder: Path) -> None:
    data = read(folder, "\n".join(LINES).replace("/", "\\"))
    assert_read(data)
    assert data.notes == ("p.csv: 4 files found with / in place of \\",)


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_files_are_found_in_another_normal_form(
    tmp_path: Path, on_disk: str, in_table: str
) -> None:
    name = "바나나/사과 é.jpg"
    with_files(tmp_path, unicodedata.normalize(on_disk, name), "other/x.jpg")
    text = f"{HEADER}\n{name},tea,train\nother\\x.jpg,tea,train\n"
    for written in (text, text.replace("/", "\\")):
        data = read(tmp_path, unicodedata.normalize(in_table, written))
        assert [Path(path).is_file() for path in data.train.paths] == [True, True]
        assert len(data.train) == 2 and data.skipped == ()
        assert any("in another Unicode normal form" in note for note in data.notes)


def test_names_that_are_not_utf8_are_found_by_their_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xbb\xe7.jpg")
    with_files(tmp_path, name)
    data = read(tmp_path, f"{HEADER}\n\\xbb\\xe7.jpg,tea,train\n")
    assert data.train.ids.tolist() == [name.removesuffix(".jpg")] and data.skipped == ()
    folder = with_files(tmp_path / "c" / "test", f"test_data/query/{name}")
    (folder / "test_labels.csv").write_text("id,label\n\\xbb\\xe7,tea\n")
    assert load_dataset(tmp_path / "c").query.labels.tolist() == [0]


def test_a_file_in_the_written_form_is_preferred(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "사과.jpg") for form in ("NFC", "NFD")]
    with_files(tmp_path, *forms)
    data = read(tmp_path, f"{HEADER}\n{forms[0]},tea,train\n{forms[1]},tea,train\n")
    assert sorted(Path(path).name for path in data.train.paths) == sorted(forms)
    assert data.notes == ()


def test_some_missing_files_are_counted_and_listed(folder: Path) -> None:
    lines = [HEADER, *ROWS, "i/gone.jpg,tea,gallery", "I/A.jpg,tea,train"]
    data = read(folder, "\n".join(lines))
    assert data.skipped == (
        (
            str(folder / "I/A.jpg"),
            f"file not found, but {folder / 'i/a.jpg'} is there (upper and lower case)",
        ),
        (str(folder / "i/gone.jpg"), "file not found"),
    )
    assert data.notes == (
        "p.csv: 1 of 3 gallery files were not found, such as i/gone.jpg",
        "p.csv: 1 of 2 train files were not found, such as I/A.jpg",
    )


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("i/{}.JPG", "upper and lower case"),
        ("I/{}.jpg", "upper and lower case"),
        ("i/{}.png", "file endings"),
        ("i/{}", "file endings"),
        ("'i/{}.jpg'", "quotes around the name"),
        ("i/{}.jpg\u200b", "white space or invisible characters"),
        ("i/{} .jpg", "white space or invisible characters"),
        ("{}.jpg", "a folder in front"),
        ("../data/i/{}.jpg", "a folder in front"),
        ("C:\\data\\i\\{}.jpg", "a folder in front"),
        ("file:///data/i/{}.jpg", "a folder in front"),
        ("i%2F{}.jpg", "escapes of web addresses (%20, &amp;)"),
        ("ｉ/{}.jpg", "typographic signs or full width"),
        ("/data/i/{}.png", "a folder in front and file endings"),
    ],
)
def test_the_likely_cause_of_missing_files_is_named(folder: Path, written: str, cause: str) -> None:
    rows = [f"{written.format(name)},tea,train" for name in "abcd"]
    message = refusal(folder, "\n".join([HEADER, *rows]))
    name = written.format("a")
    assert message.startswith("none of the 4 train files exist. ")
    assert f"In the table: {name!r}; on disk: 'i/a.jpg'. The likely cause: {cause}." in message


@pytest.mark.parametrize(
    ("on_disk", "in_table"),
    [
        (os.fsdecode("사과.jpg".encode("cp949")), "사과.jpg"),
        ("사과.jpg".encode("cp949").decode("cp437"), "사과.jpg"),
        ("사과.jpg", "사과.jpg".encode().decode("latin-1")),
        ("사과.jpg", "사과.jpg".encode("cp949").decode("cp1252")),
    ],
)
def test_names_in_a_wrong_encoding_are_explained(
    tmp_path: Path, on_disk: str, in_table: str
) -> None:
    with_files(tmp_path, on_disk)
    message = refusal(tmp_path, f"{HEADER}\n{in_table},tea,train\n")
    assert "The likely cause: letters that were read in a wrong encoding." in message


def test_paths_from_the_current_folder_are_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "lists").mkdir()
    (folder / "lists" / "p.csv").write_text("\n".join(LINES))
    with pytest.raises(ValueError, match="relative to the current folder; write paths relative to"):
        load_dataset("lists/p.csv")


def test_missing_files_without_any_image_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, f"{HEADER}\ngone.jpg,tea,train\n")
    assert message == (
        "none of the 1 train files exist. In the table: 'gone.jpg'; there is no image on disk. "
        "Paths are relative to the folder of the table."
    )


# --- labels of the challenge's test images


def challenge(folder: Path, labels: str) -> Path:
    for row in range(4):
        with_files(folder / "test" / "test_data", f"query/query_{row}.JPG")
        with_files(folder / "test" / "test_data", f"reference/refer_{row}.jpg")
    (folder / "test" / "test_labels.csv").write_text(labels)
    return folder


NAMES = [f"{kind}_{row}" for kind in ("query", "refer") for row in range(4)]


def test_test_labels_can_leave_images_out(tmp_path: Path) -> None:
    rows = [f"{name},{name[-1]}" for name in NAMES if name not in ("refer_3", "query_2")]
    data = load_dataset(challenge(tmp_path, "id;label\n" + "\n".join(rows).replace(",", ";")))
    assert data.query.ids.tolist() == NAMES[:4] and data.gallery.ids.tolist() == NAMES[4:]
    assert data.query.labels.tolist() == [0, 1, NO_LABEL, 3]
    assert data.gallery.labels.tolist()[-1] == NO_LABEL
    assert data.notes == ("test_labels.csv: cells are separated by semicolons",)


@pytest.mark.parametrize(
    ("written", "name", "cause"),
    [
        ("{}.jpg", "query_0.jpg", "file endings"),
        ("{}.JPG", "query_0.JPG", "file endings"),
        ("test/{}", "test/query_0", "a folder in front"),
        ("db\\{}", "db\\query_0", "a folder in front"),
        ("'{}'", "'query_0'", "quotes around the name"),
    ],
)
def test_test_labels_of_other_names_are_refused(
    tmp_path: Path, written: str, name: str, cause: str
) -> None:
    rows = [f"{written.format(name)},{name[-1]}" for name in NAMES]
    with pytest.raises(ValueError) as caught:
        load_dataset(challenge(tmp_path, "\n".join(["id,label", *rows])))
    assert "none of its 8 names are those of the 8 test images. " in str(caught.value)
    assert f"In the table: {name!r}; on disk: 'query_0'. The likely cause: {cause}." in str(
        caught.value
    )


def test_test_labels_of_more_images_than_there_are_here_are_counted(tmp_path: Path) -> None:
    rows = [f"{kind}_{row},{row % 4}" for kind in ("query", "refer") for row in range(20)]
    data = load_dataset(challenge(tmp_path, "\n".join(["id,label", *rows])))
    assert data.query.labels.tolist() == data.gallery.labels.tolist() == [0, 1, 2, 3]
    assert data.notes == ("test_labels.csv: 32 of 40 names have no image, such as query_4",)


@pytest.mark.parametrize("written", ["{}", "{}.0"])
def test_test_labels_that_lost_leading_zeros_are_explained(tmp_path: Path, written: str) -> None:
    test = tmp_path / "test"
    with_files(test / "test_data", "query/001.jpg", "query/002.jpg", "reference/003.jpg")
    rows = [f"{written.format(number)},a" for number in (1, 2, 3)]
    (test / "test_labels.csv").write_text("\n".join(["id,label", *rows]))
    with pytest.raises(ValueError, match="The likely cause: leading zeros or a final .0."):
        load_dataset(tmp_path)


def test_test_labels_that_leave_a_whole_list_without_labels_are_refused(tmp_path: Path) -> None:
    rows = [f"{name.replace('query', 'Query')},{name[-1]}" for name in NAMES]
    with pytest.raises(ValueError, match="4 of its 8 names .* cause: upper and lower case"):
        load_dataset(challenge(tmp_path, "\n".join(["id,label", *rows])))


def test_labels_of_the_grocery_lists_are_numbers_in_any_spelling(tmp_path: Path) -> None:
    with_files(tmp_path, "train/a.jpg", "val/b.jpg")
    (tmp_path / "classes.csv").write_bytes(
        "Class Name (str);Class ID (int)\r\nTea;0.0\r\n사과;1\r\n".encode("cp949")
    )
    (tmp_path / "train.txt").write_bytes("train\\a.jpg; 01; 0\r".encode("utf-16"))
    (tmp_path / "val.txt").write_text("val/b.jpg, 1.0, 0\n")
    data = load_dataset(tmp_path)
    assert data.class_names == ("Tea", "사과")
    assert data.train.labels.tolist() == data.query.labels.tolist() == [1]
    assert data.train.ids.tolist() == ["train/a"]
    assert len(data.notes) == 5
