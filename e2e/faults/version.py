"""The node that the other topics stand on answers."""

from cluster import Failure


def test_answers(cluster):
    said = cluster.kubectl("get", "--raw", "/version").stdout
    if '"v1.32.' not in said:
        raise Failure(said)
