import pytest

from hydrometer.alignment import ObjectiveInfo, complete_nodes
from hydrometer.alignment.study import build_study


@pytest.fixture(scope="session")
def study_of():
    def build(tables, objectives=("reverse_kl", "forward_kl")):
        nodes = complete_nodes(tables.nodes, tables.candidates)
        infos = {name: ObjectiveInfo(name) for name in objectives}
        return build_study("student", nodes, tables.candidates, tables.teacher_scores, infos)

    return build
