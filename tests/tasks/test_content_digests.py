"""A run's content is named by digests of its files: they change with the content and with nothing else."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from tasks import file_digests
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.planted import PlantedDenoiser
from tasks.diffusion.pokemon import Pokemon
from tasks.diffusion.worlds import REVISION
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style
from tests.tasks.diffusion.data.test_data import write_folder


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path / "cache"))


def change_captions(folder):
    (folder / "metadata.jsonl").write_text((folder / "metadata.jsonl").read_text().replace("thing", "other"))


def swap_pictures(folder):
    (folder / "1.png").rename(folder / "x")
    (folder / "2.png").rename(folder / "1.png")
    (folder / "x").rename(folder / "2.png")


@pytest.mark.parametrize("change", [change_captions, swap_pictures])
def test_a_changed_folder_of_pictures_has_another_digest(tmp_path, change):
    folder = write_folder(tmp_path / "p", 10)
    before = Pokemon(data=str(folder)).content_digests()["data"]
    change(folder)
    assert Pokemon(data=str(folder)).content_digests()["data"] != before


def test_a_moved_folder_has_the_same_digest(tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    before = Pokemon(data=str(folder)).content_digests()
    assert Pokemon(data=str(folder.rename(tmp_path / "q"))).content_digests() == before


def test_a_subjects_pictures(tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    task = DreamBooth(data=str(folder), instance_prompt="sks", prior_preservation=False)
    before = task.content_digests()["data"]
    change_captions(folder)
    assert task.content_digests()["data"] == before  # it reads no captions
    swap_pictures(folder)
    assert task.content_digests()["data"] != before


def write_rows(file, word):
    file.write_text("mr,ref\n" + "".join(f'"name[Place {i}], food[Thai]",{word} {i}.\n' for i in range(12)))


def test_tables_and_texts(tmp_path):
    table, text = tmp_path / "rows.csv", tmp_path / "text.txt"
    digests = set()
    for word in ("Eat", "Dine"):
        write_rows(table, word)
        text.write_text("".join(f"{word} here, food {i} is good and its price is low.\n" for i in range(2000)))
        tasks = EndToEnd(data=str(table)), Style(data=str(text))
        digests |= {task.content_digests()["data"] for task in tasks}
    assert len(digests) == 4


def test_a_digest_is_the_recorded_revision(tmp_path):
    from tasks.language.data import e2e_data

    write_rows(tmp_path / "rows.csv", "Eat")
    task = EndToEnd(data=str(tmp_path / "rows.csv"))
    assert task.content_digests()["data"] == e2e_data.load(task.data, 1, 2).revision


def test_drawn_data_are_identified_by_their_settings_and_pictures_by_the_revision_of_the_drawings():
    for task in (Pokemon(), DreamBooth(), PlantedDenoiser()):
        digests = task.content_digests()
        assert digests.keys() == {"data", "base"}
        assert digests["data"] == REVISION
    assert EndToEnd().content_digests().keys() == {"base"}


def test_a_base_is_identified_by_its_files(tmp_path):
    from tasks.bundled.bundled_bases import FOLDERS, LANGUAGE_MODEL

    folder = tmp_path / "base"
    folder.mkdir()
    for file in FOLDERS[LANGUAGE_MODEL].glob("*"):
        (folder / file.name).write_bytes(file.read_bytes())
    task = EndToEnd(base=str(folder))
    before = task.content_digests()
    assert before == EndToEnd().content_digests()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 0.1}))
    assert task.content_digests() != before


def test_files_that_loading_does_not_read_do_not_count(tmp_path):
    from tasks.bundled.bundled_bases import FOLDERS, LANGUAGE_MODEL, STABLE_DIFFUSION

    language, diffusion = (tmp_path / name for name in ("language", "diffusion"))
    shutil.copytree(FOLDERS[LANGUAGE_MODEL], language)
    shutil.copytree(FOLDERS[STABLE_DIFFUSION], diffusion)
    (language / "pytorch_model.bin").write_bytes(b"pickled")
    (diffusion / "safety_checker").mkdir()
    for name in (
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "v1-5-pruned.safetensors",
    ):
        (diffusion / name).write_bytes(b"not read")
    assert EndToEnd(base=str(language)).content_digests() == EndToEnd().content_digests()
    assert Pokemon(base=str(diffusion)).content_digests() == Pokemon().content_digests()
    assert EndToEnd(base=str(language), allow_pickle=True).content_digests() != EndToEnd().content_digests()


@pytest.mark.parametrize(
    "file", ["unet/config.json", "tokenizer/vocab.json", "vae/diffusion_pytorch_model.safetensors"]
)
def test_a_base_is_identified_by_every_file_that_is_read(tmp_path, file):
    from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION

    shutil.copytree(FOLDERS[STABLE_DIFFUSION], tmp_path / "base")
    with (tmp_path / "base" / file).open("ab") as content:
        content.write(b" ")
    assert Pokemon(base=str(tmp_path / "base")).content_digests() != Pokemon().content_digests()


def test_sharded_weights_count(tmp_path):
    from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION

    digests = set()
    for content in (b"1", b"2"):
        folder = tmp_path / content.decode()
        shutil.copytree(FOLDERS[STABLE_DIFFUSION], folder)
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        (folder / "unet" / "diffusion_pytorch_model-00001-of-00001.safetensors").write_bytes(content)
        digests.add(Pokemon(base=str(folder)).content_digests()["base"])
    assert len(digests) == 2


def test_a_base_of_the_hub_is_identified_by_its_commit(monkeypatch):
    from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION
    from tasks.diffusion.model import bases
    from tasks.pretrained.hub import Snapshot

    folder = FOLDERS[STABLE_DIFFUSION]
    monkeypatch.setattr(bases.hub, "fetch", lambda option, name, *_: Snapshot(folder, name, "the commit"))
    assert Pokemon(base="someone/a-model-of-theirs").content_digests() == {"data": REVISION, "base": "the commit"}


def test_files_that_are_not_data_do_not_count(tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    before = Pokemon(data=str(folder)).content_digests()["data"]
    for name in ("README.txt", "notes.json", "licence.csv"):
        (folder / name).write_text("not data")
    assert Pokemon(data=str(folder)).content_digests()["data"] == before


def test_the_digest_of_many_configurations_reads_each_file_once(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "p", 10)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    before = Pokemon(data=str(folder)).content_digests()
    with monkeypatch.context() as without_reading:
        without_reading.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert Pokemon(data=str(folder), random_flip=True).content_digests() == before
    swap_pictures(folder)  # sizes and times of change may be equal; the files are others
    assert Pokemon(data=str(folder)).content_digests() != before


def test_a_large_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "LARGE", 4)
    file = tmp_path / "weights"
    file.write_bytes(b"old weights")
    os.utime(file, (1, 1))
    expected = hashlib.sha256(b"old weights").digest()
    assert file_digests.file_sha256(file) == expected
    with monkeypatch.context() as without_reading:
        without_reading.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert file_digests.file_sha256(file) == expected
        file_digests._settled_sha256.cache_clear()
        assert file_digests.file_sha256(file) == expected, "another process reads it again"
    file.write_bytes(b"new weights")
    assert file_digests.file_sha256(file) == hashlib.sha256(b"new weights").digest()
    (stored,) = (tmp_path / "cache").rglob("*.json")
    stored.write_text("[")
    os.utime(file, (2, 2))
    assert file_digests.file_sha256(file) == hashlib.sha256(b"new weights").digest()


def test_digests_of_the_bundled_bases_need_no_torch():
    code = (
        "import sys; from tasks import Pokemon, EndToEnd; Pokemon().content_digests(); EndToEnd().content_digests();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
