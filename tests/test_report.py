"""The page of a run: what it shows, that its links lead somewhere, and the pictures of shapes."""

import csv
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from face_models import dome
from fits import fit_result

from focus import FaceModel
from focus.export import export_fit
from focus.report import NUMBERS, ReportItem, medians, short_names, write_report
from focus.views import shape_views


class Page(HTMLParser):
    """Links, and the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.links, self.words, self.hidden = [], [], 0
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.hidden += tag in ("style", "script")
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


@pytest.fixture
def run(model, tmp_path):
    """Three photos, one with a name that HTML and URLs must escape, and two that failed."""
    items = [ReportItem.failed("z.jpg", "dlib found no face"), ReportItem.failed("<b>.jpg", "not a picture & empty")]
    for number, name in enumerate(["b.jpg", "50% <i>#1</i>?.jpg", "a.jpg"]):
        result = fit_result(model, rmse_inlier=5.0 + number, rmse_all=float("nan") if number == 2 else 20.0)
        folder = name.removesuffix(".jpg").replace("/", "_")
        export_fit(tmp_path / folder, result, model, pictures=shape_views(result.vertices, result.faces, 32))
        items.append(ReportItem.fitted(name, folder, result, seconds=2.0 * number))
    return tmp_path, items


def test_page_shows_every_photo_sorted_with_both_errors_and_every_reason(run):
    folder, items = run
    page = Page(write_report(folder, items, note="Interrupted: 5 of 9 photos were reached.").read_text())
    assert "3 of 5 photos fitted" in page.text and "Interrupted: 5 of 9" in page.text
    places = [page.text.index(text) for text in ("<b>.jpg", "z.jpg", "50% <i>#1</i>?.jpg", "a.jpg mesh", "b.jpg mesh")]
    assert places == sorted(places)
    assert "z.jpg dlib found no face" in page.text and "<b>.jpg not a picture & empty" in page.text
    assert "RMSE in mask 5.0 RMSE, all 20.0 mask / face 67 % landmark error 1.4 px time 0.0 s" in page.text
    assert "RMSE in mask 7.0 RMSE, all – mask / face" in page.text
    assert "median RMSE in mask 6.0" in page.text


def test_links_are_relative_and_lead_to_files(run):
    folder, items = run
    page = Page(write_report(folder, items).read_text())
    assert len(page.links) == 3 * (4 + 2 * 5)  # four files, five pictures that link to themselves
    for link in page.links:
        assert ":" not in link and not link.startswith("/")
        assert (folder / unquote(link)).is_file(), link
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"index.html", "results.csv"}


def test_a_page_needs_nothing_from_elsewhere(run):
    folder, items = run
    text = write_report(folder, items).read_text()
    assert "http" not in text and "@import" not in text


def test_landmarks_are_drawn_in_both_colours(run):
    folder, items = run
    text = write_report(folder, items).read_text()
    x, y = items[-1].landmarks_photo[67]
    assert f"M{x:.1f} {y:.1f}h0" in text
    assert text.count('<path class="seen"') == text.count('<path class="fitted"') == 6  # on photo and overlay


def test_results_csv_has_a_row_for_each(run):
    folder, items = run
    write_report(folder, items)
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == sorted(item.photo for item in items)
    by_name = {row["photo"]: row for row in rows}
    assert by_name["z.jpg"]["error"] == "dlib found no face" and by_name["z.jpg"]["rmse_all"] == ""
    assert float(by_name["b.jpg"]["rmse_inlier"]) == 5.0 and float(by_name["b.jpg"]["rmse_all"]) == 20.0
    assert by_name["a.jpg"]["rmse_all"] == "" and by_name["a.jpg"]["folder"] == "a"


def test_a_run_in_which_all_failed(tmp_path):
    page = Page(write_report(tmp_path / "new", [ReportItem.failed("a.jpg", "no such file")]).read_text())
    assert "0 of 1 photos fitted" in page.text and "a.jpg no such file" in page.text and not page.links


def test_the_folder_that_all_photos_share_is_left_out(tmp_path):
    items = [ReportItem.failed(f"far/away/{name}.jpg", "no such file") for name in "ab"]
    assert short_names(items) == ("far/away", ["a.jpg", "b.jpg"])
    assert "far/away" not in Page(write_report(tmp_path, items).read_text()).text
    items.append(ReportItem.failed("a.jpg", "no such file"))
    assert short_names(items) == (".", ["far/away/a.jpg", "far/away/b.jpg", "a.jpg"])


def test_medians_pass_over_what_is_missing(run):
    _, items = run
    found = medians(items)
    assert (found["rmse_inlier"], found["rmse_all"], found["seconds"]) == (6.0, 20.0, 2.0)
    assert medians([]) == dict.fromkeys(NUMBERS)


def test_shape_is_seen_from_the_front_and_from_its_left_side():
    vertices, faces = dome(1200, 40, 150)  # bulges to +z, its top is its nose
    views = shape_views(vertices, faces, 64)
    assert set(views) == {"shape_front", "shape_side"}
    for image in views.values():
        assert image.shape == (64, 64, 4) and image.dtype == np.uint8
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1], 3] == 0).all()  # transparent corners
        shades = image[image[:, :, 3] == 255][:, :3]
        assert (shades == shades[:, :1]).all() and np.ptp(shades) > 30  # grey, and shaded
    widths = {name: np.ptp(np.argwhere(image[:, :, 3].any(0))) for name, image in views.items()}
    assert widths["shape_side"] < 0.7 * widths["shape_front"]
    row = views["shape_side"][32, :, 3] > 0  # through the nose: it is what sticks out to the left
    assert row.argmax() < (views["shape_side"][8, :, 3] > 0).argmax()


def test_a_mesh_larger_than_the_picture_is_shown_whole():
    vertices, faces = dome(1200, 40, 150)
    for image in shape_views(vertices * 4, faces, 64).values():
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edge[:, 3] == 0).all() and (image[:, :, 3] > 0).any()
