"""Augmentation: masks and boxes go where the pixels go, and what is drawn depends on the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.tasks import augment

pytestmark = pytest.mark.torch

SIDES = st.integers(2, 12)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pictures(count, height, width, seed=0, channels=3):
    return torch.rand((count, channels, height, width), generator=seeded(seed))


@given(count=st.integers(1, 4), height=SIDES, width=SIDES, seed=st.integers(0, 9))
@settings(deadline=None)
def test_a_flip_twice_is_the_identity(count, height, width, seed):
    given_pictures = pictures(count, height, width, seed)
    masks = (given_pictures[:, 0] * 9).to(torch.uint8)
    boxes = tuple(torch.rand((i, 5), generator=seeded(seed)) * 8 // 1 for i in range(count))
    which = augment.drawn_flips(count, seeded(seed))

    def twice(turn, x):
        return turn(turn(x))

    assert torch.equal(twice(lambda x: augment.flipped(x, which), given_pictures), given_pictures)
    assert torch.equal(twice(lambda x: augment.flipped(x, which), masks), masks)
    turned = twice(lambda x: augment.flipped_boxes(x, which, width), boxes)
    assert all(torch.equal(a, b) for a, b in zip(turned, boxes, strict=True))


def painted(height, width, box):
    """A picture that is white where a box is."""
    x0, y0, x1, y1 = box
    picture = torch.zeros((1, 3, height, width))
    picture[:, :, y0:y1, x0:x1] = 1
    return picture


def extent(picture):
    """The box of what is not black."""
    rows, columns = (np.flatnonzero(picture.sum(dim=(0, axis)).numpy() > 0) for axis in (2, 1))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@st.composite
def boxed(draw):
    height, width = draw(SIDES), draw(SIDES)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return height, width, (x0, y0, x1, y1)


@given(case=boxed(), seed=st.integers(0, 20))
@settings(deadline=None)
def test_boxes_follow_the_pixels(case, seed):
    height, width, box = case
    boxes = (torch.tensor([[2.0, *box]]),)

    picture = painted(height, width, box)
    shown, moved = augment.for_detection(picture, boxes, seeded(seed), strength=0.0)

    assert moved[0][0].tolist() == [2, *extent(shown[0])]


@given(seed=st.integers(0, 50), enlarge=st.floats(0.5, 2.0))
@settings(deadline=None)
def test_masks_follow_the_pixels_through_scale_and_crop(seed, enlarge):
    # A picture that shows its own mask in steps of 0.2: away from edges between classes the
    # picture that comes out shows the mask that comes out.
    coarse = torch.randint(0, 4, (2, 3, 4), generator=seeded(seed))
    masks = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2).to(torch.uint8)
    shows = (0.2 * (1 + masks.float()))[:, None].repeat(1, 3, 1, 1)

    shown, classes = augment.for_segmentation(
        shows, masks, seeded(seed), void=9, scales=(enlarge, enlarge)
    )

    step = classes.float()
    calm = torch.nn.functional.max_pool2d(step, 5, 1, 2) == -torch.nn.functional.max_pool2d(
        -step, 5, 1, 2
    )
    for side in (slice(None, 2), slice(-2, None)):  # an edge may lie just outside what is seen
        calm[:, side] = calm[:, :, side] = False
    expected = torch.where(classes == 9, 0.0, 0.2 * (1 + step))
    assert calm.any()
    assert torch.allclose(shown[:, 0][calm], expected[calm], atol=1e-4)


def test_the_whole_picture_as_a_window_is_the_picture():
    given_pictures = pictures(2, 6, 9)
    masks = torch.randint(0, 5, (2, 6, 9), generator=seeded(1))
    whole = torch.tensor([[0.0, 0.0, 6.0, 9.0]] * 2)

    assert torch.allclose(augment.cropped(given_pictures, whole, (6, 9)), given_pictures, atol=1e-6)
    assert torch.equal(augment.cropped_masks(masks, whole, (6, 9), None), masks)


def test_a_window_is_the_slice_it_names():
    given_pictures = pictures(1, 8, 10)
    masks = torch.randint(0, 5, (1, 8, 10), generator=seeded(1))
    window = torch.tensor([[2.0, 3.0, 4.0, 5.0]])

    shown = augment.cropped(given_pictures, window, (4, 5))

    assert torch.allclose(shown, given_pictures[:, :, 2:6, 3:8], atol=1e-6)
    assert torch.equal(augment.cropped_masks(masks, window, (4, 5), None), masks[:, 2:6, 3:8])


def test_without_void_no_window_oversteps():
    masks = torch.randint(0, 5, (64, 8, 10), generator=seeded(1))

    _, classes = augment.for_segmentation(
        pictures(64, 8, 10), masks, seeded(3), void=None, scales=(0.5, 2.0)
    )

    assert classes.max() < 5
    with pytest.raises(ValueError, match="no void"):
        augment.cropped_masks(masks[:1], torch.tensor([[-2.0, 0, 8, 10]]), (8, 10), None)


@given(scale=st.floats(0.5, 3.0), seed=st.integers(0, 9))
@settings(deadline=None)
def test_windows_have_the_scale_asked_for_and_touch_the_picture_wholly(scale, seed):
    windows = augment.drawn_windows(32, (20, 30), (scale, scale), seeded(seed))

    top, left, height, width = windows.unbind(1)
    assert torch.allclose(height, torch.tensor(20 / scale))
    assert torch.allclose(width, torch.tensor(30 / scale))
    for low, side, whole in ((top, height, 20), (left, width, 30)):
        inner, outer = torch.minimum(side, torch.tensor(whole)), torch.tensor(float(whole))
        overlap = torch.minimum(low + side, outer) - low.clamp(min=0)
        assert torch.allclose(overlap, inner, atol=1e-3)  # the smaller lies inside the larger


def test_moving_is_a_window_of_the_padded_picture():
    given_pictures = pictures(40, 5, 7)
    shifts = augment.drawn_shifts(40, 2, seeded(4))

    moved = augment.moved(given_pictures, shifts)

    padded = torch.nn.functional.pad(given_pictures, (2, 2, 2, 2))
    for picture, wide, down, right in zip(moved, padded, *shifts.tolist(), strict=True):
        assert torch.equal(picture, wide[:, 2 - down : 7 - down, 2 - right : 9 - right])
    assert set(shifts.flatten().tolist()) == {-2, -1, 0, 1, 2}


def test_for_classification_shows_every_position_and_both_sides():
    one = torch.zeros((1, 1, 5, 5))
    one[0, 0, 2, 1] = 1

    shown = augment.for_classification(one.repeat(800, 1, 1, 1), 1, seeded(0))

    rows, columns = (torch.nonzero(shown)[:, i] for i in (2, 3))
    seen = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert seen == {(r, c) for r in (1, 2, 3) for c in (0, 1, 2, 3, 4)}


@given(seed=st.integers(0, 9), channels=st.sampled_from([1, 3]))
@settings(deadline=None)
def test_light_of_factor_one_changes_nothing_and_any_stays_in_range(seed, channels):
    given_pictures = pictures(3, 4, 6, seed, channels)

    same = augment.relit(given_pictures, torch.ones((3, 3)))
    other = augment.relit(given_pictures, augment.drawn_light(3, 0.9, seeded(seed)))

    assert torch.allclose(same, given_pictures, atol=1e-6)
    assert 0 <= other.min() <= other.max() <= 1


def test_light_is_brightness_contrast_and_saturation():
    given_pictures = pictures(1, 4, 6) * 0.4 + 0.3

    brighter = augment.relit(given_pictures, torch.tensor([[1.2, 1.0, 1.0]]))
    flat = augment.relit(given_pictures, torch.tensor([[1.0, 0.0, 1.0]]))
    grey = augment.relit(given_pictures, torch.tensor([[1.0, 1.0, 0.0]]))

    assert torch.allclose(brighter, given_pictures * 1.2, atol=1e-6)
    assert flat.std() < 1e-6
    weights = torch.tensor(augment.LUMA)[None, :, None, None]
    assert torch.allclose(grey[:, :1], (given_pictures * weights).sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(grey.amax(1), grey.amin(1), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_drawn_depends_on_the_generator_alone(seed):
    given_pictures, masks = pictures(8, 8, 8), torch.zeros((8, 8, 8), dtype=torch.uint8)
    boxes = (torch.ones((1, 5)),) * 8

    def drawn(generator):
        return (
            augment.for_classification(given_pictures, 2, generator),
            augment.for_segmentation(given_pictures, masks, generator, void=1)[0],
            augment.for_detection(given_pictures, boxes, generator)[0],
        )

    before = torch.random.get_rng_state()
    one, again, other = drawn(seeded(seed)), drawn(seeded(seed)), drawn(seeded(seed + 7))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)
