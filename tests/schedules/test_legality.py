# SPDX-License-Identifier: Apache-2.0
"""Every rule of a schedule broken once, and the message that names the offender."""

from dataclasses import replace

import pytest

from schedules.cycles import Pass
from schedules.errors import ScheduleError
from schedules.schedule import Edge, Home, Phase, Schedule
from schedules.sequential import sequential


@pytest.fixture(scope="module")
def predicted(problem, machine) -> Schedule:
    return sequential(problem, machine, clock_mhz=200.0, passes=[Pass(16)])


def phases(schedule: Schedule, **changes: dict) -> Schedule:
    """Change phases by id."""
    return replace(
        schedule,
        phases=tuple(
            replace(p, **changes[p.id]) if p.id in changes else p for p in schedule.phases
        ),
    )


def edge(schedule: Schedule, tensor: str, to: str, **changes) -> Schedule:
    """Change the edges of a tensor to a task."""
    return replace(
        schedule,
        edges=tuple(
            replace(e, **changes) if (e.tensor, e.to) == (tensor, to) else e for e in schedule.edges
        ),
    )


def home(schedule: Schedule, tensor: str, **changes) -> Schedule:
    """Change the home of a tensor."""
    return replace(
        schedule,
        buffers=tuple(
            replace(
                b, homes=tuple(replace(h, **changes) if h.tensor == tensor else h for h in b.homes)
            )
            for b in schedule.buffers
        ),
    )


def reordered(schedule: Schedule, first: str, second: str) -> Schedule:
    """Swap two phases."""
    names = [p.id for p in schedule.phases]
    a, b = names.index(first), names.index(second)
    names[a], names[b] = names[b], names[a]
    return replace(schedule, phases=tuple(schedule.phase(name) for name in names))


def refused(schedule: Schedule, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        schedule.verify()


def test_the_schedule_itself_is_legal(schedule: Schedule) -> None:
    schedule.verify()


class TestPhases:
    def test_unknown_section(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, q={"section": "layers"}),
            "Phase q: section layers does not exist; did you mean layer",
        )

    def test_other_section(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, fc2={"section": "head"}),
            "Phase fc2 of section head runs task fc2 of another section",
        )

    def test_order_of_sections(self, schedule: Schedule) -> None:
        moved = replace(schedule, phases=(*schedule.phases[1:], schedule.phases[0]))
        refused(moved, "Phase embed of section start comes after phase lm_head of section head")

    def test_task_in_two_phases(self, schedule: Schedule) -> None:
        refused(phases(schedule, v={"run": (("k", ("c0",)),)}), "Task k runs in phases k and v")

    def test_task_in_no_phase(self, schedule: Schedule) -> None:
        refused(replace(schedule, phases=schedule.phases[:-1]), "Task lm_head runs in no phase")

    def test_two_phases_of_a_name(self, schedule: Schedule) -> None:
        refused(
            replace(schedule, phases=(*schedule.phases, schedule.phases[-1])),
            "Two phases are called lm_head",
        )


class TestEdges:
    def test_two_places(self, schedule: Schedule) -> None:
        second = Edge("q", "q", "scores", "offchip", mem="m0")
        refused(
            replace(schedule, edges=(*schedule.edges, second)),
            r"Edge q \(q to scores\) has places onchip and offchip; it must have one",
        )

    def test_no_place(self, schedule: Schedule) -> None:
        edges = tuple(e for e in schedule.edges if e.tensor != "gelu")
        refused(replace(schedule, edges=edges), r"Edge gelu \(gelu to fc2\) has no place")

    def test_edge_of_nothing(self, schedule: Schedule) -> None:
        extra = Edge("q", "q", "fc2", "onchip", "activations")
        refused(replace(schedule, edges=(*schedule.edges, extra)), "fc2 does not read q from q")

    def test_reader_before_producer(self, schedule: Schedule) -> None:
        refused(
            reordered(schedule, "ln_2", "fc1"),
            "Phase fc1 runs fc1, which reads ln_2 of ln_2 in phase ln_2, not before it",
        )

    def test_reader_without_waiting(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, fc2={"barrier": False}),
            "Phase fc2 reads gelu of phase fc1, but no phase in between waits until it is written",
        )

    def test_next_repetition_without_waiting(self, schedule: Schedule) -> None:
        # The barrier of ln_1 is the only one between add_2 and its use in the next layer.
        refused(
            phases(schedule, ln_1={"barrier": False}),
            "Phase ln_1 reads x of phase embed, but no phase",
        )

    def test_stream_between_phases(self, schedule: Schedule) -> None:
        refused(
            edge(schedule, "gelu", "fc2", place="stream", depth=4),
            r"Edge gelu \(gelu to fc2\) is a stream, but gelu is in phase fc1 and fc2 in phase fc2",
        )

    def test_stream_backwards(self, schedule: Schedule) -> None:
        run = schedule.phase("fc1").run
        refused(
            phases(schedule, fc1={"run": run[::-1]}),
            "Phase fc1: gelu comes before fc1, whose stream it takes",
        )

    def test_stream_of_nothing(self, schedule: Schedule) -> None:
        refused(edge(schedule, "fc1", "gelu", depth=0), "must hold at least one item, not 0")

    def test_unknown_buffer(self, schedule: Schedule) -> None:
        refused(edge(schedule, "gelu", "fc2", buffer="attic"), "buffer attic does not exist")

    def test_homeless(self, schedule: Schedule) -> None:
        refused(
            edge(schedule, "gelu", "fc2", buffer="residual"), "gelu has no home in buffer residual"
        )

    def test_unknown_memory(self, schedule: Schedule) -> None:
        refused(
            edge(schedule, "k", "scores", mem="m9"),
            r"Edge k \(k to scores\): memory m9 does not exist",
        )


class TestUnits:
    def test_unknown_unit(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, q={"run": (("q", ("c7",)),)}),
            "Phase q: unit c7 of task q does not exist",
        )

    def test_wrong_unit(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, ln_1={"run": (("ln_1", ("softmax",)),)}),
            "unit softmax cannot do layernorm",
        )
        refused(
            phases(schedule, ln_1={"run": (("ln_1", ("c0",)),)}),
            r"unit c0 cannot do layernorm \(task ln_1\)",
        )

    def test_no_unit(self, schedule: Schedule) -> None:
        refused(phases(schedule, q={"run": (("q", ()),)}), "Phase q: task q has no unit")

    def test_two_tasks_on_a_core(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, attention={"interleave": 0}),
            "Phase attention: unit c0 has two tasks, scores and context",
        )

    def test_more_in_turns_than_the_stream_holds(self, schedule: Schedule) -> None:
        refused(
            edge(schedule, "softmax", "context", depth=2),
            "holds 2 items, but phase attention runs 4 ahead",
        )

    def test_more_in_turns_than_slots(self, schedule: Schedule) -> None:
        wide = edge(edge(schedule, "softmax", "context", depth=9), "scores", "softmax", depth=9)
        refused(
            phases(wide, attention={"interleave": 9}),
            "runs 9 items ahead, but the template has 4 slots",
        )

    def test_in_turns_without_a_stream(self, schedule: Schedule) -> None:
        both = Phase("k", "layer", "task_parallel", (("k", ("c0",)), ("v", ("c0",))), interleave=2)
        merged = tuple(both if p.id == "k" else p for p in schedule.phases if p.id != "v")
        refused(
            replace(schedule, phases=merged), "Phase k: k and v take turns, but no stream leads"
        )


class TestPatterns:
    def test_sequential_runs_one(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, fc1={"pattern": "sequential"}),
            "Phase fc1 is sequential and must run one task, not 2",
        )

    def test_parallel_runs_two(self, schedule: Schedule) -> None:
        refused(
            phases(schedule, q={"pattern": "task_parallel"}),
            "Phase q is task_parallel and must run two or more",
        )

    def test_parallel_has_no_streams(self, schedule: Schedule) -> None:
        refused(phases(schedule, fc1={"pattern": "task_parallel"}), "without streams between them")

    def test_pipeline_needs_streams(self, schedule: Schedule) -> None:
        both = Phase("k", "layer", "pipeline", (("k", ("c0",)), ("v", ("c1",))))
        template = replace(
            schedule.template,
            cores=(*schedule.template.cores, replace(schedule.template.cores[0], id="c1")),
        )
        merged = tuple(both if p.id == "k" else p for p in schedule.phases if p.id != "v")
        refused(
            replace(schedule, phases=merged, template=template),
            "Phase k is a pipeline, but v takes no stream of its tasks",
        )


class TestBuffers:
    def test_two_owners(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "context", offset=schedule.home("q")[1].offset),
            "Phase attention: byte 512 of buffer activations belongs to q and to context",
        )

    def test_overwrites_what_is_still_read(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "add_1", replaces=""), "Phase proj: byte 0 of buffer residual belongs to"
        )
        # Only an addition, element by element, may overwrite what it reads.
        refused(
            home(schedule, "x", live=("ln_1", "ln_2")),
            "Phase proj: byte 0 of buffer residual belongs to",
        )

    def test_ends_too_early(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "ln_1", live=("ln_1", "v")),
            "Home of ln_1 ends with phase v, but phase q needs it",
        )

    def test_begins_too_late(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "q", live=("attention", "attention")),
            "Home of q begins with phase attention, but it is there from phase q",
        )

    def test_backwards(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "q", live=("attention", "q")),
            "Home of q: phase attention does not come before q",
        )

    def test_too_small(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "gelu", bytes=1000),
            "Home of gelu has 1000 bytes, but 16 tokens take 1024",
        )

    def test_beyond_the_buffer(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "gelu", offset=1024),
            "Home of gelu ends at byte 2048, but buffer activations has 1536 bytes",
        )

    def test_within_a_word(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "ln_f", offset=8),
            "Home of ln_f must start at a word of buffer activations, not at byte 8",
        )

    def test_unknown_phase(self, schedule: Schedule) -> None:
        refused(
            home(schedule, "q", live=("q", "atention")),
            "phase atention does not exist; did you mean attention",
        )

    def test_two_homes(self, schedule: Schedule) -> None:
        activations, residual = schedule.buffers
        extra = Home("q", 0, 512, ("q", "attention"))
        refused(
            replace(
                schedule, buffers=(activations, replace(residual, homes=(*residual.homes, extra)))
            ),
            "Tensor q has homes in buffers activations and residual",
        )

    def test_a_carry_that_moves(self, schedule: Schedule) -> None:
        activations, residual = schedule.buffers
        homes = tuple(replace(h, offset=1024) if h.tensor == "embed" else h for h in residual.homes)
        moved = replace(residual, homes=homes, bytes=2 * residual.bytes)
        refused(
            replace(schedule, buffers=(activations, moved)),
            "Tensors x, embed and add_2 are one carry and must have one home",
        )

    def test_words_fill_the_banks(self, schedule: Schedule) -> None:
        with pytest.raises(
            ScheduleError, match="1537 bytes are not whole words of 8 bytes in 2 banks"
        ):
            replace(schedule.buffers[0], bytes=1537)


class TestRings:
    def ring(self, schedule: Schedule, name: str, **changes) -> Schedule:
        return replace(
            schedule,
            rings=tuple(replace(r, **changes) if r.name == name else r for r in schedule.rings),
        )

    def test_order_of_use(self, schedule: Schedule) -> None:
        weights = next(r for r in schedule.rings if r.name == "w").tensors
        swapped = (weights[1], weights[0], *weights[2:])
        refused(
            self.ring(schedule, "w", tensors=swapped),
            "Ring w reads k.w before ln_1.w, but ln_1.w is used first",
        )

    def test_forgotten_weight(self, schedule: Schedule) -> None:
        weights = next(r for r in schedule.rings if r.name == "w").tensors
        refused(
            self.ring(schedule, "w", tensors=weights[:-1]),
            "Tensor lm_head.w is read from memory, but no ring reads it",
        )

    def test_read_twice(self, schedule: Schedule) -> None:
        refused(self.ring(schedule, "v", tensors=("v", "k")), "Tensor k is in rings k and v")

    def test_read_for_nothing(self, schedule: Schedule) -> None:
        refused(
            self.ring(schedule, "v", tensors=("v", "gelu")),
            "Ring v reads gelu, which no task reads from memory",
        )

    def test_too_small(self, schedule: Schedule) -> None:
        refused(
            self.ring(schedule, "w", bytes=500),
            "Ring w has 500 bytes, but task fc2 keeps 512 bytes in it",
        )
        refused(
            self.ring(schedule, "k", bytes=512),
            "Ring k has 512 bytes, but task scores keeps 1024 bytes in it",
        )

    def test_unknown_memory(self, schedule: Schedule) -> None:
        refused(self.ring(schedule, "w", mem="m1"), "Ring w: memory m1 does not exist")


class TestPredictions:
    def wrong(self, schedule: Schedule, message: str, **changes) -> None:
        refused(replace(schedule, predicted=(replace(schedule.predicted[0], **changes),)), message)

    def test_does_not_fit(self, predicted: Schedule) -> None:
        self.wrong(
            predicted, "17 tokens after 0: such a pass does not fit in chunk and context", tokens=17
        )
        self.wrong(predicted, "16 tokens after 60: such a pass does not fit", past=60)

    def test_more_bytes_than_the_ports_deliver(self, predicted: Schedule) -> None:
        times = tuple(
            replace(t, bytes=10**9) if t.phase == "fc2" else t
            for t in predicted.predicted[0].phases
        )
        self.wrong(
            predicted,
            "by the end of phase fc2 at .*, more than the memory ports deliver",
            phases=times,
        )

    def test_phases_at_the_same_time(self, predicted: Schedule) -> None:
        times = tuple(
            replace(t, start=t.start - 1) if t.phase == "q" else t
            for t in predicted.predicted[0].phases
        )
        self.wrong(predicted, "phase q starts at .*, before phase v ends", phases=times)

    def test_parts_exceed_the_total(self, predicted: Schedule) -> None:
        self.wrong(predicted, "more than the total 100", total=100)

    def test_unknown_phase(self, predicted: Schedule) -> None:
        first, *rest = predicted.predicted[0].phases
        self.wrong(
            predicted, "phase embedd does not exist", phases=(replace(first, phase="embedd"), *rest)
        )

    def test_runs_longer_than_counted(self, predicted: Schedule) -> None:
        first, *rest = predicted.predicted[0].phases
        self.wrong(
            predicted, "phase embed takes 1 cycles from", phases=(replace(first, cycles=1), *rest)
        )
