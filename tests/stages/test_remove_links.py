"""`remove` deletes no photographs outside their folder, and names what it cannot delete."""

import pytest

from configs import remove as remove_config
from fer_jax.data import originals
from fer_jax.errors import UserError
from fer_jax.stages import remove

GONE, STAYS = "zelda77", "yorick"


@pytest.fixture
def photos(tmp_path):
    """Two people in a table, whose files are not pictures, since `remove` does not decode them."""
    root = tmp_path / "photos"
    root.mkdir()
    (tmp_path / "w").mkdir()
    for person in (GONE, STAYS):
        (root / f"{person}.png").write_bytes(person.encode() * 9)
    write_table(root, f"{GONE}.png,{GONE},sad", f"{STAYS}.png,{STAYS},sad")
    return root


@pytest.fixture
def folders(tmp_path):
    """Two people in folders of subject and emotion."""
    root = tmp_path / "photos"
    (tmp_path / "w").mkdir()
    for person in (GONE, STAYS):
        (root / person / "sad").mkdir(parents=True)
        (root / person / "sad" / "1.png").write_bytes(person.encode() * 9)
    return root


def write_table(root, *rows):
    (root / "labels.csv").write_text("\n".join(["path,subject,emotion", *rows, ""]))


def run(photos, person=GONE, workdir=None):
    config = remove_config.get_config()
    config.update({"remove": person, "photos": str(photos), "work": str(photos.parent / "w")})
    return remove.run(config, workdir or photos.parent / "removals")


def state(folder):
    return {
        path: (path.is_symlink(), path.read_bytes() if path.is_file() else path.exists())
        for path in folder.rglob("*")
        if path.exists() or path.is_symlink()
        if "removals" not in path.parts
    }


@pytest.mark.parametrize("way", ["absolute", "parent", "linked_folder"])
def test_a_row_that_leads_outside_the_folder_deletes_nothing(photos, way):
    outside = photos.parent / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    (photos / "shortcut").symlink_to(outside)
    path = {
        "absolute": str(outside / "thesis.txt"),
        "parent": "../outside/thesis.txt",
        "linked_folder": "shortcut/thesis.txt",
    }[way]
    write_table(photos, f"{GONE}.png,{GONE},sad", f"{path},{GONE},happy")
    before = state(photos.parent)
    with pytest.raises(UserError, match=r"thesis\.txt"):
        run(photos)
    assert state(photos.parent) == before


def test_a_photograph_linked_from_outside_is_named_and_nothing_is_deleted(photos):
    original = photos.parent / "archive.png"
    original.write_bytes(b"the original")
    (photos / "linked.png").symlink_to(original)
    write_table(photos, f"{GONE}.png,{GONE},sad", f"linked.png,{GONE},happy")
    before = state(photos.parent)
    with pytest.raises(UserError, match=rf"{original}.*by hand"):
        run(photos)
    assert state(photos.parent) == before
    original.unlink()
    run(photos)
    assert sorted(path.name for path in photos.iterdir()) == ["labels.csv", f"{STAYS}.png"]


def test_a_path_through_a_link_and_back_means_the_file_in_the_folder(photos):
    (photos / "far" / "away").mkdir(parents=True)
    (photos / "far" / f"{GONE}.png").write_bytes(b"somebody else")
    (photos / "link").symlink_to("far/away")
    write_table(photos, f"link/../{GONE}.png,{GONE},sad", f"{STAYS}.png,{STAYS},sad")
    with pytest.raises(UserError, match=rf"far/{GONE}\.png"):
        run(photos)
    assert not (photos / f"{GONE}.png").exists()
    assert (photos / "far" / f"{GONE}.png").read_bytes() == b"somebody else"


def test_a_linked_photograph_is_deleted_with_its_original_inside_the_folder(photos):
    (photos / "store").mkdir()
    (photos / f"{GONE}.png").rename(photos / "store" / "a.png")
    (photos / f"{GONE}.png").symlink_to("store/a.png")
    run(photos)
    assert not (photos / "store" / "a.png").exists()
    assert not (photos / f"{GONE}.png").is_symlink()
    assert (photos / f"{STAYS}.png").is_file()


def test_a_linked_folder_is_deleted_with_its_originals_inside_the_folder(folders):
    (folders / "z").mkdir()
    (folders / GONE).rename(folders / "z" / "store")
    (folders / GONE).symlink_to("z/store")
    run(folders)
    assert not [p for p in folders.rglob("*.png") if STAYS not in p.parts]
    assert not (folders / GONE).is_symlink()


def test_a_linked_folder_outside_is_named_and_nothing_is_deleted(folders):
    outside = folders.parent / "outside"
    (folders / GONE).rename(outside)
    (folders / GONE).symlink_to(outside)
    before = state(folders.parent)
    with pytest.raises(UserError, match=rf"{outside}/sad/1.png.*by hand"):
        run(folders)
    assert state(folders.parent) == before


def test_with_a_table_folder_names_are_ignored(photos):
    """The folder `1` is a session, not the person `1`."""
    (photos / "1").mkdir()
    (photos / f"{STAYS}.png").rename(photos / "1" / "a.png")
    write_table(photos, f"{GONE}.png,1,sad", f"1/a.png,{STAYS},sad")
    run(photos, person="1")
    assert (photos / "1" / "a.png").is_file()
    assert not (photos / f"{GONE}.png").exists()


def test_a_file_that_is_also_in_another_persons_row_is_not_deleted(photos):
    write_table(photos, f"{GONE}.png,{GONE},sad", f"{GONE}.png,{STAYS},sad")
    before = state(photos.parent)
    with pytest.raises(UserError, match=rf"line 3.*{STAYS}"):
        run(photos)
    assert state(photos.parent) == before


def test_other_lines_of_a_table_keep_every_byte(photos):
    text = f'\ufeffpath,subject,emotion,note\r\n{GONE}.png,{GONE},sad,"a\nb"\r\n'
    rest = f'{STAYS}.png, {STAYS} ,sad,"said ""no"""\r\n'
    (photos / "labels.csv").write_bytes((text + rest).encode())
    run(photos)
    kept = (photos / "labels.csv").read_bytes().decode()
    assert kept == "\ufeffpath,subject,emotion,note\r\n" + rest


@pytest.mark.parametrize("workdir", [".", "below"])
def test_the_workdir_of_a_removal_is_not_among_the_photographs(photos, workdir):
    before = state(photos.parent)
    with pytest.raises(UserError, match="is inside the input"):
        run(photos, workdir=photos / workdir)
    assert state(photos.parent) == before


def test_the_folder_of_all_workdirs_cannot_be_the_workdir(photos):
    before = state(photos.parent)
    with pytest.raises(UserError, match=r"contains --config\.work="):
        run(photos, workdir=photos.parent / "w")
    assert state(photos.parent) == before


def test_a_row_that_is_added_during_the_removal_is_kept(photos, monkeypatch):
    ledger = photos / "consent.csv"
    ledger.write_text(f"subject,share,train,demo,revoked\n{GONE},no,yes,no,\n")
    delete_files = originals.delete_files

    def somebody_withdraws(found):
        with ledger.open("a") as file:
            file.write(f"{STAYS},no,yes,no,2026-03-01\n")
        delete_files(found)

    monkeypatch.setattr(originals, "delete_files", somebody_withdraws)
    run(photos)
    assert ledger.read_text() == (
        f"subject,share,train,demo,revoked\n{STAYS},no,yes,no,2026-03-01\n"
    )


def test_a_pseudonym_that_leads_outside_is_refused(photos):
    (photos / "pseudonyms.csv").write_text(f"subject,pseudonym\n{GONE},../../../../x\n")
    before = state(photos.parent)
    with pytest.raises(UserError, match=r"pseudonyms\.csv, line 2"):
        run(photos)
    assert state(photos.parent) == before


@pytest.mark.parametrize("name", ["labels.csv", "consent.csv", "pseudonyms.csv"])
def test_a_table_that_cannot_be_read_stops_the_removal(photos, name):
    table = photos / name
    table.unlink(missing_ok=True)
    table.symlink_to("nowhere.csv")
    before = state(photos.parent)
    with pytest.raises(UserError, match=name):
        run(photos)
    assert state(photos.parent) == before


def test_spellings_of_a_persian_name_are_one_person(folders):
    (folders / GONE).rename(folders / "علي")  # with the Arabic letter
    run(folders, "علی")  # with the Persian letter
    assert sorted(path.name for path in folders.iterdir()) == [STAYS]


@pytest.mark.parametrize("name", [GONE, "7"])
def test_other_files_in_the_persons_folder_are_named(folders, name):
    (folders / GONE).rename(folders / name)
    (folders / name / "sad" / "2.heic").write_bytes(b"a photograph that is not read")
    with pytest.raises(UserError, match=r"1 files still contain the person's id: .*2\.heic"):
        run(folders, name)
    assert (folders / name / "sad" / "2.heic").is_file()
    assert not list((folders / name).rglob("*.png"))
