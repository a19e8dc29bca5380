"""Settings: where each value comes from, and mistakes with their place."""

import os
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.settings import DatasetPaths, dataset_paths, dataset_splits, load_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(home), **more}


def write_user(home: Path, text: str) -> Path:
    path = home / "maskrcnn-harness/harness.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_defaults(work: Path, home: Path) -> None:
    found = load_settings(work, environment(home))
    assert found.run_root == work / "runs"
    assert found.tracking_uri == f"sqlite:///{work}/mlflow.db"
    assert found.cache_root == Path.home() / ".cache/maskrcnn-harness"
    assert (found.cluster, found.local_jobs, found.threads) == ("local", 1, len(os.sched_getaffinity(0)))
    assert found.datasets == {}
    assert set(found.origins.values()) == {"default"}
    assert set(found.origins) == {"run_root", "cache_root", "tracking_uri", "cluster", "local_jobs", "threads"}


def test_the_working_folder_wins_over_the_user_key_by_key(work: Path, home: Path) -> None:
    user = write_user(home, 'cluster = "mine"\nrun_root = "/data/runs"\n[datasets.coco]\nroot = "coco"\n')
    own = work / "harness.toml"
    own.write_text('# mine\nrun_root = "out"\nlocal_jobs = 2\n\n[datasets.coco]\ntrain_images = "t"\n')
    found = load_settings(work, environment(home))
    assert (found.run_root, found.cluster, found.local_jobs) == (work / "out", "mine", 2)
    assert found.tracking_uri == f"sqlite:///{work}/mlflow.db"
    assert found.datasets == {"coco": DatasetPaths(root=user.parent / "coco", train_images="t")}
    assert found.origins["run_root"] == f"{own}:2"
    assert found.origins["local_jobs"] == f"{own}:3"
    assert found.origins["cluster"] == f"{user}:1"
    assert found.origins["datasets.coco"] == f"{user}:4"


def test_the_environment_wins_over_files(work: Path, home: Path) -> None:
    (work / "harness.toml").write_text(
        'run_root = "out"\ntracking_uri = "sqlite:///a.db"\n[datasets.a-b]\nroot = "x"\n'
    )
    variables = environment(
        home,
        HARNESS_RUN_ROOT="elsewhere",
        HARNESS_CACHE_ROOT="/cache",
        MLFLOW_TRACKING_URI="http://server:5000",
        HARNESS_CLUSTER="big",
        HARNESS_LOCAL_JOBS="3",
        HARNESS_THREADS="4",
        HARNESS_DATASET_COCO2017="/coco",
        HARNESS_DATASET_A_B="y",
    )
    found = load_settings(work, variables)
    assert (found.run_root, found.cache_root) == (work / "elsewhere", Path("/cache"))
    assert (found.cluster, found.local_jobs, found.threads) == ("big", 3, 4)
    assert found.tracking_uri == "http://server:5000"
    assert found.datasets == {"a-b": DatasetPaths(root=work / "y"), "coco2017": DatasetPaths(root=Path("/coco"))}
    assert found.origins["tracking_uri"] == "environment variable MLFLOW_TRACKING_URI"
    assert found.origins["datasets.coco2017"] == "environment variable HARNESS_DATASET_COCO2017"
    variables["HARNESS_TRACKING_URI"] = "sqlite:///b.db"
    assert load_settings(work, variables).tracking_uri == f"sqlite:///{work}/b.db"
    assert load_settings(work, environment(home)).tracking_uri == f"sqlite:///{work}/a.db"


def test_the_store_stands_beside_the_runs(work: Path, home: Path) -> None:
    found = load_settings(work, environment(home, HARNESS_RUN_ROOT="/big/runs"))
    assert found.tracking_uri == "sqlite:////big/mlflow.db"


def test_threads_share_the_cores(work: Path, home: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert load_settings(work, environment(home, HARNESS_LOCAL_JOBS="2")).threads == max(1, cores // 2)
    assert load_settings(work, environment(home, HARNESS_LOCAL_JOBS="1000")).threads == 1


def test_an_empty_variable_is_not_set(work: Path, home: Path) -> None:
    found = load_settings(work, environment(home, HARNESS_RUN_ROOT="", HARNESS_DATASET_X=""))
    assert set(found.origins.values()) == {"default"}
    assert found.datasets == {}


TOP = "'run_root', 'cache_root', 'tracking_uri', 'cluster', 'local_jobs', 'threads' or 'datasets'"
PARTS = "'root', 'train_images', 'train_annotations', 'val_images' or 'val_annotations'"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('run_rot = "x"', [f"1:1: unknown key 'run_rot', did you mean 'run_root'?; expected {TOP}"]),
        ("  local_jobs = 0", ["1:16: local_jobs is 0, expected at least 1"]),
        ("local_jobs = true", ["1:14: local_jobs is true, expected a whole number"]),
        ("run_root = 3", ["1:12: run_root is 3, expected a text"]),
        ('cluster = ""', ["1:11: cluster is '', expected at least 1 character"]),
        ("datasets = 3", ["1:12: datasets is 3, expected a mapping"]),
        ("[datasets]\ncoco = 3", ["2:8: datasets.coco is 3, expected a mapping"]),
        (
            '[datasets.coco]\nroot = "x"\ntrain_image = "y"',
            [f"3:1: unknown key 'train_image', did you mean 'train_images'?; expected {PARTS}"],
        ),
        ('[datasets."my set"]\nroot = 1', ["2:8: datasets.my set.root is 1, expected a text"]),
        ("datasets.coco.root = 1", ["1:22: datasets.coco.root is 1, expected a text"]),
        ("[datasets]\ncoco = {root = 1}", ["2:8: datasets.coco.root is 1, expected a text"]),
        (
            "local_jobs = 0\n\n[datasets.a]\nrot = 1\nroot = 2\n",
            [
                "1:14: local_jobs is 0, expected at least 1",
                f"4:1: unknown key 'rot', did you mean 'root'?; expected {PARTS}",
                "5:8: datasets.a.root is 2, expected a text",
            ],
        ),
        ("run_root = ", ["1:12: not valid TOML: invalid value"]),
        ('run_root = "x', ["1:14: not valid TOML: unterminated string"]),
        ("a = 1\na = 2", ["2:6: not valid TOML: cannot overwrite a value"]),
    ],
)
def test_mistakes_are_told_with_their_place(work: Path, home: Path, text: str, messages: list[str]) -> None:
    (work / "harness.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_settings(work, environment(home))
    assert str(caught.value).splitlines() == [f"{work / 'harness.toml'}:{message}" for message in messages]


def test_mistakes_of_both_files_and_the_environment_at_once(work: Path, home: Path) -> None:
    user = write_user(home, "threads = 0\n")
    (work / "harness.toml").write_bytes(b'cluster = "\xff"\n')
    with pytest.raises(UserError) as caught:
        load_settings(work, environment(home, HARNESS_LOCAL_JOBS="many"))
    assert str(caught.value).splitlines() == [
        f"{user}:1:11: threads is 0, expected at least 1",
        f"{work / 'harness.toml'}:1: not UTF-8 text (byte 0xff)",
        "environment variable HARNESS_LOCAL_JOBS is 'many', expected a whole number from 1",
    ]


@pytest.mark.parametrize("address", ["postgresql://anna:secret@[bad/x", "http://host:99999", "http://:5000"])
def test_an_address_that_is_none_is_a_line_without_its_secrets(work: Path, home: Path, address: str) -> None:
    (work / "harness.toml").write_text(f'\ntracking_uri = "{address}"\n')
    with pytest.raises(UserError) as caught:
        load_settings(work, environment(home))
    expected = "tracking_uri is no address; expected sqlite:///FILE or http(s)://HOST:PORT"
    assert str(caught.value) == f"{work / 'harness.toml'}:2: {expected}"


def test_a_data_set_without_a_root(work: Path, home: Path) -> None:
    (work / "harness.toml").write_text('[datasets.coco]\ntrain_images = "t"\n')
    with pytest.raises(UserError) as caught:
        load_settings(work, environment(home))
    assert str(caught.value) == (
        f"{work / 'harness.toml'}:2: data set 'coco' has train_images but no root; add root = \"FOLDER\""
    )


def test_an_unknown_data_set_is_answered_with_the_lines_to_add(work: Path, home: Path) -> None:
    found = load_settings(work, environment(home, HARNESS_DATASET_SHAPES="/s", HARNESS_DATASET_COCO2017="/c"))
    with pytest.raises(UserError) as caught:
        dataset_paths(found, "coco2107")
    assert str(caught.value).splitlines() == [
        "unknown data set 'coco2107', did you mean 'coco2017'?; known: coco2017, shapes. To add it to harness.toml:",
        "  [datasets.coco2107]",
        '  root = "FOLDER"',
    ]
    with pytest.raises(UserError, match="known: none"):
        dataset_paths(load_settings(work, environment(home)), "x")


def test_splits_are_found_below_the_root_or_where_they_are_said_to_be(work: Path, home: Path) -> None:
    for folder in ("set/annotations", "set/train2017", "set/pictures"):
        (work / folder).mkdir(parents=True)
    for name in ("instances_train2017.json", "other.json"):
        (work / "set/annotations" / name).write_text("{}")
    (work / "harness.toml").write_text(
        '[datasets.s]\nroot = "set"\nval_images = "pictures"\nval_annotations = "annotations/other.json"\n'
    )
    train, val = dataset_splits(load_settings(work, environment(home)), "s")
    assert train.annotations == work / "set/annotations/instances_train2017.json"
    assert train.images == work / "set/train2017"
    assert (val.images, val.annotations) == (work / "set/pictures", work / "set/annotations/other.json")
