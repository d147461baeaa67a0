import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu.peaks import TPUS
from keras_bert_tpu.tpu.slices import Slice


@pytest.mark.parametrize(
    ("text", "name", "chips"),
    [
        ("v5e:2x4", "v5e", 8),
        ("v4:2x2x1", "v4", 4),
        ("v3-8", "v3", 4),
        ("v5litepod-16", "v5e", 16),
        ("V6E-8", "v6e", 8),
        ("v5p-8", "v5p", 4),
        ("tpu7x:2x2x1", "tpu7x", 4),
    ],
)
def test_topologies_and_accelerator_types_are_read(text, name, chips):
    found = Slice.parse(text)
    assert (found.name, found.chips) == (name, chips)


@pytest.mark.parametrize(
    "text", ["v5e", "v9:2x2", "2x4", "v5e:2x", "v5e:0x4", "v3-7", "a100-8", ""]
)
def test_what_is_no_slice_is_told_with_examples(text):
    with pytest.raises(InputError, match="v5e:2x4|multiple of 2|at least one chip"):
        Slice.parse(text)


def test_gradients_of_one_chip_have_no_way_to_go():
    assert Slice.parse("v5e:1x1").all_reduce_seconds(4 * 110_000_000) == 0


def test_sum_over_two_chips_takes_the_link_between_them():
    # Each sends half of the array and then the sum of the other half: all of it once, over one of
    # the four links of 50 GB/s each way.
    seconds = Slice.parse("v5e:1x2").all_reduce_seconds(50_000_000)
    assert seconds == pytest.approx(1e-3)


def test_sum_over_a_pod_uses_all_links():
    pod = Slice.parse("v5e:16x16")
    assert pod.all_reduce_seconds(10**8) == pytest.approx(2 * 255 / 256 * 10**8 / 200e9)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("v2:2x2", 2),
        ("v2:16x16", 4),
        ("v3:4x4", 2),
        ("v3:16x32", 3),
        ("v5e:2x4", 2),
        ("v5e:4x8", 2),
        ("v6e:8x16", 3),
        ("v4:2x2x1", 2),
        ("v4:2x2x4", 3),
        ("v5p:4x4x4", 6),
        ("v5p:4x4x8", 6),
        ("v5p:2x4x4", 3),
    ],
)
def test_ends_of_an_axis_are_linked_where_it_is_a_ring(text, links):
    assert Slice.parse(text).links == links


@pytest.mark.parametrize(
    ("text", "topology"),
    [
        ("v2-8", "v2:2x2"),
        ("v3-32", "v3:4x4"),
        ("v3-64", "v3:4x8"),
        ("v5e-4", "v5e:2x2"),
        ("v5litepod-32", "v5e:4x8"),
        ("v6e-1", "v6e:1x1"),
        ("v4-8", "v4:2x2x1"),
        ("v4-32", "v4:2x2x4"),
        ("v5p-128", "v5p:4x4x4"),
        ("v4-1536", "v4:8x8x12"),
        ("tpu7x-8", "tpu7x:2x2x1"),
    ],
)
def test_an_accelerator_type_is_its_default_topology(text, topology):
    assert str(Slice.parse(text)) == topology


def test_too_many_axes_are_told():
    with pytest.raises(InputError, match="v5e lie along 2 axes, for example v5e:2x4"):
        Slice.parse("v5e:2x2x2")


def test_clocks_are_those_that_are_published():
    # v2 and v3: CACM 63(7), 2020; v4: arXiv 2304.01433.
    published = {"v2": 700e6, "v3": 940e6, "v4": 1050e6}
    for name, clock in published.items():
        assert TPUS[name].clock == pytest.approx(clock, rel=0.01)
