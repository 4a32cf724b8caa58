"""The hot paths in instructions, held to docs/instructions.md: no figure grows by more than a tenth. The same binary
executes the same instructions on every machine and under any load."""
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT))
from bench import instructions  # noqa: E402


pytestmark = pytest.mark.soak


@pytest.fixture(scope="module", params=list(instructions.KINDS))
def counted(built, request):
    try:
        return request.param, instructions.count(request.param)
    except instructions.Unavailable as reason:
        pytest.skip(str(reason))


def test_no_primitive_has_grown(counted):
    kind, counts = counted
    limits = {name: instructions.limit(figure) for (name, of), figure in instructions.committed().items() if of == kind}
    grown = {name: (round(count), round(limits[name])) for name, count in counts.items() if count > limits[name]}
    assert not grown, f"instructions, and their limits, with stacks={kind}: {grown}; scripts/bench --instructions --write"


def test_the_table_names_every_primitive(counted):
    kind, counts = counted
    assert set(counts) == {name for name, of in instructions.committed() if of == kind}


def test_figures_mean_instructions_of_one_operation(counted):
    """A loop that is not subtracted, or a patched function that is not seen, would show."""
    kind, counts = counted
    assert 20 < counts["frame: malloc and free 64"] < counts["no frame: malloc and free 64"] < 2000
    assert counts["marker: await, entered"] > 10
    if kind == "full":
        assert counts["frame: malloc and free at depth 5"] < counts["frame: malloc and free at depth 20"]


def test_a_tenth_more_is_too_much():
    assert 109 < instructions.limit(100) and 112 > instructions.limit(100)
