"""A small copy of every layout in which the datasets circulate, file for file as the real one, with drawn faces.

`MINIATURES` maps `"<dataset>: <layout>"` to a `Miniature`: build it somewhere, open it with its options, and it must
hold the counts that it states. The same folder of faces serves the tests of audit, preparation and the command line.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from drawn_files import Counts, counts, deal, face, write, write_csv
from fer_miniatures import (
    fer2013_csv,
    fer2013_icml,
    fer2013_kaggle_folders,
    fer2013_npz,
    fer2013_part_folders,
    fer2013_three,
    ferplus_class_folders,
    ferplus_csv,
    ferplus_microsoft,
    ferplus_npz,
)

from mien.labels import (
    AFFECTNET8,
    AFFECTNET11,
    AFFWILD2,
    ALPHABETICAL7,
    CKPLUS,
    POOLED6,
    RAFDB,
    RAFDB_COMPOUND,
)


@dataclass(frozen=True)
class Miniature:
    """How to build one layout, and what it holds."""

    dataset: str
    layout: str
    build: Callable[[Path], Counts]
    options: Mapping[str, str] = field(default_factory=dict)


def _raf_names(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{part}_{number:05d}.jpg" for number, (part, _) in enumerate(rows, 1)]


RAF_ROWS = deal(RAFDB, {"train": 2, "test": 1})


def _rafdb(root: Path, labels: Sequence[str], rows: Sequence[tuple[str, str]], base: str = "basic") -> Counts:
    lines = []
    for name, (_, label) in zip(_raf_names(rows), rows, strict=True):
        stem = name.removesuffix(".jpg")
        write(root / base / "Image" / "aligned" / f"{stem}_aligned.jpg", label=label)
        write(root / base / "Image" / "original" / name, face(label, 64))
        lines.append(f"{name} {labels.index(label) + 1}")
        for kind, text in (
            ("manual", "21.0\t20.0\n" * 5 + "1\n2\n3\n"),
            ("boundingbox", "3.0 4.5 60.0 62.0 \n"),
        ):
            path = root / base / "Annotation" / kind / f"{stem}_{'manu_attri' if kind == 'manual' else kind}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    path = root / base / "EmoLabel" / "list_patition_label.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    return counts(rows)


def rafdb_list(root: Path) -> Counts:
    return _rafdb(root, RAFDB, RAF_ROWS)


def rafdb_compound(root: Path) -> Counts:
    return _rafdb(root, RAFDB_COMPOUND, deal(RAFDB_COMPOUND, {"train": 1, "test": 1}), base="compound")


def rafdb_dda(root: Path) -> Counts:
    """The list beside `aligned/aligned`, as Dual-Domain Attention expects it."""
    for name, (_, label) in zip(_raf_names(RAF_ROWS), RAF_ROWS, strict=True):
        write(root / "aligned" / "aligned" / name.replace(".jpg", "_aligned.jpg"), label=label)
    lines = [f"{name} {RAFDB.index(label) + 1}\n" for name, (_, label) in zip(_raf_names(RAF_ROWS), RAF_ROWS, strict=True)]
    (root / "list_patition_label.txt").write_text("".join(lines))
    return counts(RAF_ROWS)


def rafdb_numbered(root: Path) -> Counts:
    """`DATASET/train/1 … 7`, the flattened copy on Kaggle."""
    for name, (part, label) in zip(_raf_names(RAF_ROWS), RAF_ROWS, strict=True):
        write(root / "DATASET" / part / str(RAFDB.index(label) + 1) / name.replace(".jpg", "_aligned.jpg"), label=label)
    return counts(RAF_ROWS)


def rafdb_from_zero(order: Sequence[str]) -> Callable[[Path], Counts]:
    """`train|val/0 … 6`, as DDAMFN wants it, in one of the two orders that such copies have."""

    def build(root: Path) -> Counts:
        for name, (part, label) in zip(_raf_names(RAF_ROWS), RAF_ROWS, strict=True):
            write(root / ("val" if part == "test" else part) / str(order.index(label)) / name, label=label)
        return counts(RAF_ROWS)

    return build


def rafdb_named(root: Path) -> Counts:
    """`train|valid/<class>`, as MFER has it."""
    for name, (part, label) in zip(_raf_names(RAF_ROWS), RAF_ROWS, strict=True):
        write(root / ("valid" if part == "test" else part) / label / name.replace(".jpg", "_aligned.jpg"), label=label)
    return counts(RAF_ROWS)


AFFECTNET_ROWS = deal(AFFECTNET8, {"train": 2, "validation": 1})


def affectnet_lists(root: Path, header_in_validation: bool = True) -> Counts:
    """`training.csv` and `validation.csv` with images in numbered folders, rows without a class among them."""
    header = [
        "subDirectory_filePath",
        "face_x",
        "face_y",
        "face_width",
        "face_height",
        "facial_landmarks",
        "expression",
        "valence",
        "arousal",
    ]
    folder = root / "Manually_Annotated_Images"
    for part, stem in (("train", "training"), ("validation", "validation")):
        rows = []
        for number, label in enumerate([label for where, label in AFFECTNET_ROWS if where == part] + ["none", "no face"]):
            name = f"{number % 3 + 1}/{part}{number:03d}.jpg"
            write(folder / name, label=label)
            affect = (-2, -2) if number == 0 else (0.25, -0.5)
            rows.append([name, 4, 5, 40, 41, "10;20;30", AFFECTNET11.index(label), *affect])
        write_csv(
            root / "Manually_Annotated_file_lists" / f"{stem}.csv",
            header if part == "train" or header_in_validation else None,
            rows,
        )
    return counts(AFFECTNET_ROWS)


def affectnet_headless(root: Path) -> Counts:
    return affectnet_lists(root, header_in_validation=False)


def affectnet_arrays(root: Path) -> Counts:
    for number, (part, label) in enumerate(AFFECTNET_ROWS):
        base = root / ("train_set" if part == "train" else "val_set")
        write(base / "images" / f"{number}.jpg", label=label)
        (base / "annotations").mkdir(exist_ok=True)
        values = {
            "exp": str(AFFECTNET8.index(label)),
            "val": "-2" if number == 0 else "0.25",
            "aro": "-2" if number == 0 else "-0.5",
        }
        for kind, value in values.items():
            np.save(base / "annotations" / f"{number}_{kind}.npy", np.array(value))
        np.save(base / "annotations" / f"{number}_lnd.npy", np.arange(136.0))
    return counts(AFFECTNET_ROWS)


def affectnet_phases(root: Path) -> Counts:
    rows = []
    for number, (part, label) in enumerate(AFFECTNET_ROWS):
        path = f"{'train' if part == 'train' else 'val'}_class/{AFFECTNET8.index(label)}/{number}.jpg"
        write(root / path, label=label)
        rows.append(
            ["train" if part == "train" else "val", rf"C:\data\AffectNet\{path}".replace("/", "\\"), AFFECTNET8.index(label)]
        )
    write_csv(root / "affectnet.csv", ["phase", "img_path", "label"], rows)
    return counts(AFFECTNET_ROWS)


def affectnet_folders(root: Path) -> Counts:
    for number, (part, label) in enumerate(AFFECTNET_ROWS):
        write(root / ("train" if part == "train" else "val") / str(AFFECTNET8.index(label)) / f"{number}.jpg", label=label)
    return counts(AFFECTNET_ROWS)


def without_contempt(build: Callable[[Path], Counts]) -> Callable[[Path], Counts]:
    """The same files, read as seven classes."""

    def seven(root: Path) -> Counts:
        return {part: {label: n for label, n in kinds.items() if label != "contempt"} for part, kinds in build(root).items()}

    return seven


CK_RECORDINGS = [
    ("S005", "001", "disgust"),
    ("S010", "002", "surprise"),
    ("S010", "004", "anger"),
    ("S011", "006", "happiness"),
]
CK_UNLABELED = [("S012", "001"), ("S005", "003")]


def ckplus_tree(last: int, neutral: str) -> Callable[[Path], Counts]:
    """The original tree, with recordings that have no label; the counts are those of the options named."""

    def build(root: Path) -> Counts:
        labeled = [(subject, number, label) for subject, number, label in CK_RECORDINGS]
        for subject, number, label in [*labeled, *((*recording, "") for recording in CK_UNLABELED)]:
            for frame in range(1, 6):
                name = f"{subject}_{number}_{frame:08d}.png"
                write(root / "extended-cohn-kanade-images" / "cohn-kanade-images" / subject / number / name, label=label)
            folder = root / "Emotion_labels" / "Emotion" / subject / number
            folder.mkdir(parents=True, exist_ok=True)
            if label:
                (folder / f"{subject}_{number}_00000005_emotion.txt").write_text(f"   {CKPLUS.index(label)}.0000000e+00\n")
            folder = root / "FACS_labels" / "FACS" / subject / number
            folder.mkdir(parents=True)
            units = {"disgust": (4, 9), "surprise": (1, 2, 5), "anger": (4,), "happiness": (6, 12), "": (1,)}[label]
            (folder / f"{subject}_{number}_00000005_facs.txt").write_text("".join(f"   {u}.0000000e+00   0.0\n" for u in units))
        found = [("", label) for _, _, label in labeled for _ in range(last)]
        number = {"none": 0, "labeled": len(labeled), "all": len(labeled) + len(CK_UNLABELED)}[neutral]
        return counts([*found, *[("", "neutral")] * number])

    return build


def ckplus_48(root: Path) -> Counts:
    rows = []
    for number, label in enumerate(("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")):
        for frame in range(10, 13):
            write(root / "CK+48" / label / f"S0{number + 10}_00{number + 1}_{frame:08d}.png")
            rows.append(("", "happiness" if label == "happy" else label))
    return counts(rows)


JAFFE_CODES = dict(zip(ALPHABETICAL7, ("AN", "DI", "FE", "HA", "NE", "SA", "SU"), strict=True))


def london(root: Path) -> Counts:
    rows = []
    for number in range(6):
        for code, expression in (("03", "neutral"), ("08", "happy")):
            name = f"images/{number:03d}_{code}.jpg"
            write(root / name, label="happiness" if expression == "happy" else "neutral")
            age = "" if number == 5 else 18 + 7 * number
            rows.append((name, f"{number:03d}", expression, age, ("female", "male")[number % 2], "white"))
    write_csv(root / "labels.csv", ["image", "subject", "expression", "face_age", "face_gender", "face_eth"], rows)
    return counts(("test", "happiness" if row[2] == "happy" else "neutral") for row in rows)


def _jaffe(root: Path) -> list[tuple[str, str, str]]:
    """(file name, key of the ratings, class) of three people."""
    rows = []
    for number, (subject, label) in enumerate(itertools.product(("KA", "KL", "YM"), ALPHABETICAL7), 1):
        name = f"{subject}.{JAFFE_CODES[label]}1.{number}.tiff"
        write(root / name, label=label)
        rows.append((name, f"{subject}-{JAFFE_CODES[label]}1", label))
    return rows


def jaffe_posed(root: Path) -> Counts:
    return counts(("", label) for _, _, label in _jaffe(root))


def jaffe_rated(root: Path) -> Counts:
    """With the table of ratings, in which a neutral face is rated sad, and a second table that must not be read."""
    order = ("happiness", "sadness", "surprise", "anger", "disgust", "fear")
    rows = _jaffe(root)
    rated = ["sadness" if label == "neutral" else label for _, _, label in rows]
    lines = ["# HAP SAD SUR ANG DIS FEA PIC", "-" * 40]
    for number, ((_, key, _), label) in enumerate(zip(rows, rated, strict=True), 1):
        lines.append(f"{number} " + " ".join("4.50" if name == label else "1.25" for name in order) + f" {key}")
    lines += ["Semantic Ratings Data (Fear Excluded)", "# HAP SAD SUR ANG DIS PIC"]
    lines += [f"{number} 5.0 1.0 1.0 1.0 1.0 {key}" for number, (_, key, _) in enumerate(rows, 1)]
    (root / "README_FIRST.txt").write_text("\n".join(lines))
    return counts(("", label) for label in rated)


SFEW_FOLDERS = dict(zip(ALPHABETICAL7, ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"), strict=True))


def sfew(train: str, validation: str) -> Callable[[Path], Counts]:
    def build(root: Path) -> Counts:
        rows = deal(ALPHABETICAL7, {"train": 2, "validation": 1})
        for number, (part, label) in enumerate(rows):
            film = "AlexEmma" if part == "train" else "Wild_Target"
            folder = root / (train if part == "train" else validation)
            write(folder / SFEW_FOLDERS[label] / f"{film}_{number // 2:09d}_{number:08d}.png", label=label)
        return counts(rows)

    return build


def affwild2(which: str) -> Callable[[Path], Counts]:
    """Frames of which some lack one annotation; the counts are those of the filter."""

    def build(root: Path) -> Counts:
        kept = []
        for part, stem in (("train", "training"), ("validation", "validation")):
            lines = ["image,valence,arousal,expression,aus"]
            for number, (video, label) in enumerate(itertools.product((f"{part}-1", f"{part}-2"), (*AFFWILD2, "", ""))):
                affect = "-5,-5" if number % 5 == 4 else "0.25,-0.5"
                units = ",".join(["-1" if number % 7 == 6 else "1", *"01010101010"])
                expression = AFFWILD2.index(label) if label else -1
                lines.append(f"{video}/{number:05d}.jpg,{affect},{expression},{units}")
                write(root / "cropped_aligned" / video / f"{number:05d}.jpg")
                tasks = {"valence-arousal": number % 5 != 4, "expression": bool(label), "action-units": number % 7 != 6}
                if which == "none" or (all(tasks.values()) if which == "strict" else tasks[which]):
                    kept.append((part, label or "none"))
            (root / f"{stem}_set_annotations.txt").write_text("\n".join(lines) + "\n")
        write(root / "cropped_aligned" / "test-1" / "00001.jpg")
        (root / "test_set_images.txt").write_text("image,valence,arousal,expression,aus\ntest-1/00001.jpg\n")
        return counts([*kept, ("test", "none")])

    return build


def pooled(root: Path) -> Counts:
    """The three csv files with the leak of the original: 76 % of the validation rows are training rows."""
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "valid": [], "test": []}
    for source, prefix in (("aff", ""), ("RAF/img", "train_"), ("CK+48", "")):
        for number in range(36):
            label = POOLED6[number % 6]
            stem = f"S{number // 3 + 10:03d}_001_{number:08d}" if source == "CK+48" else f"{prefix}{number:05d}"
            path = write(root / "Data" / source / label / f"{stem}.png").relative_to(root).as_posix()
            rows["test" if number >= 30 else "train"].append((path, label))
    for number in range(12):  # images that only validation has
        path = write(root / "Data" / "RAF" / "img" / "fear" / f"test_{number:04d}.png").relative_to(root).as_posix()
        rows["valid"].append((path, "fear"))
    rows["valid"] += rows["train"][:38]
    for name, listed in rows.items():
        write_csv(
            root / f"{name}.csv",
            ["", "image_path", "label"],
            [(n, path, POOLED6.index(label)) for n, (path, label) in enumerate(listed)],
        )
    return counts(({"valid": "validation"}.get(part, part), label) for part, listed in rows.items() for _, label in listed)


def own_folders(*parts: str) -> Callable[[Path], Counts]:
    def build(root: Path) -> Counts:
        names = {"train": "train", "val": "validation", "test": "test", "": ""}
        for part, label in itertools.product(parts, ("Happy", "sad", "Neutral")):
            for number in range(3):
                write(root / part / label / "inner" / f"{number}.png")
        kinds = {"happiness": 3, "sadness": 3, "neutral": 3}
        return {names[part]: kinds for part in parts}

    return build


def own_csv(root: Path) -> Counts:
    rows = []
    for number in range(12):
        write(root / "images" / f"{number:03d}.png")
        rows.append(
            [
                f"images/{number:03d}.png",
                ("happy", "neutral")[number % 2],
                f"p{number // 2}",
                ("train", "test")[number // 8],
                number / 12,
                "ab"[number % 2],
                ("1", "0", "-1")[number % 3],
            ]
        )
    write_csv(root / "labels.csv", ["image", "expression", "subject", "split", "valence", "glasses", "AU12"], rows)
    return {"train": {"happiness": 4, "neutral": 4}, "test": {"happiness": 2, "neutral": 2}}


def own_csv_numbers(root: Path) -> Counts:
    for part, number in (("train", 6), ("val", 3)):
        rows = [(write(root / part / f"{n}.png").relative_to(root).as_posix(), n % 3) for n in range(number)]
        write_csv(root / f"{part}.csv", ["path", "label"], rows)
    return {part: {"neutral": n, "happiness": n, "sadness": n} for part, n in (("train", 2), ("validation", 1))}


def _all() -> dict[str, Miniature]:
    list_ = [
        Miniature("fer2013", "one csv", fer2013_csv),
        Miniature("fer2013", "one csv", fer2013_icml),
        Miniature("fer2013", "fer2013.npz", fer2013_npz),
        Miniature("fer2013", "folders Training, PublicTest, PrivateTest", fer2013_part_folders),
        Miniature("fer2013", "folders train, test", fer2013_kaggle_folders),
        Miniature("fer2013", "train.csv, val.csv, test.csv with pixels", fer2013_three),
        Miniature("ferplus", "fer2013.csv and fer2013new.csv", ferplus_csv),
        Miniature("ferplus", "fer2013.npz with votes", ferplus_npz),
        Miniature("ferplus", "folders written by Microsoft's script", ferplus_microsoft),
        Miniature("ferplus", "class folders and fer2013new.csv", ferplus_class_folders),
        Miniature("rafdb", "list_patition_label.txt and Image", rafdb_list),
        Miniature("rafdb", "list_patition_label.txt and Image", rafdb_list, {"images": "original"}),
        Miniature("rafdb", "list_patition_label.txt and Image", rafdb_compound, {"labels": "compound"}),
        Miniature("rafdb", "list_patition_label.txt and Image", rafdb_dda),
        Miniature("rafdb", "part folders of class folders", rafdb_numbered),
        Miniature("rafdb", "part folders of class folders", rafdb_from_zero(RAFDB), {"order": "rafdb"}),
        Miniature("rafdb", "part folders of class folders", rafdb_from_zero(AFFECTNET8), {"order": "affectnet"}),
        Miniature("rafdb", "part folders of class folders", rafdb_named),
        Miniature("ckplus", "cohn-kanade-images and Emotion", ckplus_tree(3, "none")),
        Miniature("ckplus", "cohn-kanade-images and Emotion", ckplus_tree(1, "none"), {"frames": "apex"}),
        Miniature("ckplus", "cohn-kanade-images and Emotion", ckplus_tree(3, "labeled"), {"neutral": "labeled"}),
        Miniature("ckplus", "cohn-kanade-images and Emotion", ckplus_tree(1, "all"), {"frames": "apex", "neutral": "all"}),
        Miniature("ckplus", "class folders (CK+48)", ckplus_48),
        Miniature("jaffe", "images named KA.AN1.39.tiff", jaffe_posed),
        Miniature("london", "labels.csv and images", london),
        Miniature("london", "labels.csv and images", london, {"classes": "two"}),
        Miniature("jaffe", "images named KA.AN1.39.tiff", jaffe_rated, {"labels": "rated"}),
        Miniature("sfew", "Train_Aligned_Faces, Val_Aligned_Faces", sfew("Train_Aligned_Faces", "Val_Aligned_Faces_new")),
        Miniature("sfew", "Train_Aligned_Faces, Val_Aligned_Faces", sfew("Train/Train_Aligned_Faces", "Val/Val_Aligned_Faces")),
        Miniature("sfew", "Train, Val", sfew("Train", "Val")),
        Miniature("sfew", "Train, Val", sfew("Train/Train", "Val/Val"), {"images": "whole"}),
        *(
            Miniature("affwild2", "cropped_aligned and annotations", affwild2(which), {"filter": which})
            for which in ("none", "strict", "valence-arousal", "expression", "action-units")
        ),
        Miniature("pooled", "train.csv, valid.csv, test.csv with image_path", pooled),
        Miniature("folder", "class folders", own_folders("")),
        Miniature("folder", "class folders", own_folders("train", "val", "test")),
        Miniature("folder", "class folders", affectnet_folders, {"labels": "affectnet8"}),
        Miniature("csv", "csv files", own_csv),
        Miniature("csv", "csv files", own_csv_numbers, {"labels": "affectnet7"}),
    ]
    for build, layout in (
        (affectnet_lists, "training.csv, validation.csv"),
        (affectnet_headless, "training.csv, validation.csv"),
        (affectnet_arrays, "train_set, val_set with annotations"),
        (affectnet_phases, "affectnet.csv with phases"),
    ):
        list_ += [Miniature("affectnet8", layout, build), Miniature("affectnet7", layout, without_contempt(build))]
    layout, order = "part folders of class folders", {"order": "affectnet"}
    list_ += [Miniature("affectnet8", layout, affectnet_folders, order)]
    list_ += [Miniature("affectnet7", layout, without_contempt(affectnet_folders), order)]
    names = Counter[str]()
    found = {}
    for miniature in list_:
        options = " ".join(f"{key}={value}" for key, value in miniature.options.items())
        name = f"{miniature.dataset}: {miniature.layout} {options}".strip()
        names[name] += 1
        found[f"{name} #{names[name]}" if names[name] > 1 else name] = miniature
    return found


MINIATURES = _all()
