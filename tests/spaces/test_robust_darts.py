from dnas import edges
from dnas.spaces import robust_darts

OPERATIONS = {
    *("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise"),
    *("sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"),
}


def test_edges_are_those_of_darts_in_its_order():
    assert list(robust_darts.EDGES) == [edges.name(s, t) for t in range(2, 6) for s in range(t)]


def test_every_edge_has_candidates():
    assert set(robust_darts.SPACES) == {"s1", "s2", "s3", "s4"}
    for name, cells in robust_darts.SPACES.items():
        assert set(cells) == {"normal", "reduce"}
        for candidates in cells.values():
            assert len(candidates) == len(robust_darts.EDGES)
            for options in candidates:
                assert len(options) == len(set(options)) == (3 if name == "s3" else 2)
                assert set(options) <= OPERATIONS


def test_s1_differs_between_edges_and_cells():
    normal, reduce = robust_darts.SPACES["s1"].values()
    assert normal[0] == ("skip_connect", "dil_conv_3x3")
    assert reduce[1] == ("max_pool_3x3", "dil_conv_3x3")
    assert len(set(normal)) == 5 and len(set(reduce)) == 5
