# SPDX-License-Identifier: Apache-2.0
"""Problems: what has to be done, checked when made."""

from dataclasses import replace

import pytest

from schedules.errors import ScheduleError
from schedules.problem import Carry, Problem, Task, Tensor


def change(problem: Problem, task: str, **fields) -> Problem:
    tasks = tuple(replace(t, **fields) if t.name == task else t for t in problem.tasks)
    return replace(problem, tasks=tasks)


class TestProblem:
    def test_macs_count_causal_work_once(self, problem: Problem) -> None:
        attention = (
            2 * 2 * 16 * (10 + 11 + 12)
        )  # scores and context, heads, head size, columns of three rows
        assert problem.task("scores").macs(3, 9) + problem.task("context").macs(3, 9) == attention
        weights = 3 * (4 * 32 * 32 + 2 * 32 * 64)
        assert problem.macs(3, 9) == 3 * (weights + attention) + 32 * 40
        assert problem.macs(3, 9, answer=False) == 3 * (weights + attention)

    def test_neighbours(self, problem: Problem) -> None:
        assert [t.name for t in problem.consumers("ln_1")] == ["q", "k", "v"]
        producer = problem.producer("gelu")
        assert producer is not None and producer.name == "gelu"
        assert problem.producer("x") is None

    def test_unknown_names_offer_the_nearest(self, problem: Problem) -> None:
        with pytest.raises(ScheduleError, match="no task fc3; did you mean fc"):
            problem.task("fc3")
        with pytest.raises(ScheduleError, match="no tensor ln_9; did you mean ln_"):
            problem.tensor("ln_9")

    def test_two_producers(self, problem: Problem) -> None:
        with pytest.raises(
            ScheduleError, match="q is made by q and by k; it must have one producer"
        ):
            change(problem, "k", outputs=("q",))

    def test_no_producer(self, problem: Problem) -> None:
        with pytest.raises(ScheduleError, match="lost of kind activation has no producer"):
            replace(problem, tensors=(*problem.tensors, Tensor("lost", ("L",))))

    def test_read_before_made(self, problem: Problem) -> None:
        with pytest.raises(
            ScheduleError, match="Task ln_1 reads gelu, which no earlier task makes"
        ):
            change(problem, "ln_1", inputs=("gelu", "ln_1.w"))

    def test_makes_a_weight(self, problem: Problem) -> None:
        with pytest.raises(ScheduleError, match=r"Task q makes q\.w, but that is of kind weight"):
            change(problem, "q", outputs=("q.w",))

    def test_unknown_tensor(self, problem: Problem) -> None:
        with pytest.raises(
            ScheduleError, match="Task q: tensor ln1 does not exist; did you mean ln_1"
        ):
            change(problem, "q", inputs=("ln1", "q.w"))

    def test_carry_of_nothing(self, problem: Problem) -> None:
        start, layer, head = problem.sections
        wrong = replace(layer, carries=(Carry("x", "embed", "embed"),))
        with pytest.raises(
            ScheduleError, match="continues with embed, which the section does not make"
        ):
            replace(problem, sections=(start, wrong, head))

    def test_task_in_no_section(self, problem: Problem) -> None:
        start, layer, head = problem.sections
        with pytest.raises(ScheduleError, match="Task argmax is in no section"):
            replace(problem, sections=(start, layer, replace(head, tasks=head.tasks[:-1])))

    def test_task_in_two_sections(self, problem: Problem) -> None:
        start, layer, head = problem.sections
        with pytest.raises(ScheduleError, match="embed is in sections start and head"):
            replace(problem, sections=(start, layer, replace(head, tasks=("embed", *head.tasks))))


class TestParts:
    def test_tensor(self) -> None:
        tensor = Tensor("k", ("P+L", 8), "i16", "cache")
        assert tensor.bytes(3, 4) == 7 * 8 * 2
        with pytest.raises(
            ScheduleError, match="dtype must be one of i8, i16, i32, u32, not 'f32'"
        ):
            Tensor("k", (1,), "f32")
        with pytest.raises(ScheduleError, match=r"kind must be one of .*, not 'thing'"):
            Tensor("k", (1,), kind="thing")
        with pytest.raises(ScheduleError, match="Tensor k: A size"):
            Tensor("k", (0,))

    def test_task(self) -> None:
        with pytest.raises(
            ScheduleError, match="operation matmull is not known; did you mean matmul"
        ):
            Task("q", "matmull", ("a", "b"), ("q",), 1, 1)
        with pytest.raises(ScheduleError, match="heads must be at least 1, not 0"):
            Task("q", "matmul", ("a", "b"), ("q",), 1, 1, heads=0)
        with pytest.raises(ScheduleError, match="Task q must make a tensor"):
            Task("q", "matmul", ("a", "b"), (), 1, 1)
