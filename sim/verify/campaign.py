# SPDX-License-Identifier: Apache-2.0
"""Rounds of proposing, judging and mutating, each fed by what the one before left open."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from designs.progress import Progress
from sim.errors import ToolError
from sim.verify.checker import write_checker
from sim.verify.coverage import Coverage, measure
from sim.verify.equivalence import Difference, compare, directed
from sim.verify.evaluate import Trace
from sim.verify.expression import PropertyError
from sim.verify.formal import Effort, redundant
from sim.verify.grade import Golden, Grade, MutantCounts, grade
from sim.verify.judge import Judgement, Proposal, admit, rule
from sim.verify.mine import MineLimits, mine
from sim.verify.mutants import Mutant, choose_mutants, write_mutants
from sim.verify.properties import Property, parse_property, subject_of
from sim.verify.references import Columns, Reference, segments
from sim.verify.respect import respecting
from sim.verify.simulate import Kill, Simulator, build_simulator, record
from sim.verify.stimulus import (
    SCENARIO_RESET,
    Stimulus,
    Stream,
    draw_stimulus,
    find_streams,
    followed,
)
from sim.verify.subject import Subject

__all__ = [
    "Campaign",
    "Feedback",
    "Offer",
    "Proposer",
    "Result",
    "Round",
    "Settings",
    "run_campaign",
]

COMPARED = 60
"""Survivors that are compared with the design in a round; the others wait for the next."""


SIFTINGS = 2
"""How often, in a round, what seemed to follow from other properties is looked at."""

WRONG_FOR_RIGHT = 3
"""Mined properties of a signal are believed while so many stand for each one that was falsified."""


@dataclass(frozen=True)
class Settings:
    """What a verification may cost, and when it is enough.

    Parameters
    ----------
    rounds : at most.
    target : percent of the available points that is enough.
    seconds : no round begins that would not be done by then, if it takes as long as the one before; after
        it nothing more is proven.
    mutants, cycles : of each round.
    seed : of stimulus and mutants.
    effort : of proofs.
    proposals : at most so many of the offline proposer.
    """

    rounds: int = 3
    target: float = 97.0
    seconds: float = 600.0
    mutants: int = 200
    cycles: int = 2000
    seed: int = 0
    effort: Effort = field(default_factory=lambda: Effort(seconds=15))
    proposals: int = 90


@dataclass(frozen=True)
class Feedback:
    """What a proposer is told before a round."""

    round: int
    ruled: Sequence[Judgement]
    survivors: Sequence[Mutant]
    missed: Sequence[str]


@dataclass(frozen=True)
class Offer:
    """Properties that somebody proposes, and inputs of consecutive cycles to try."""

    proposals: Sequence[Proposal]
    rows: Sequence[dict[str, int]] = ()


class Proposer(Protocol):
    """Somebody else who proposes, beside the offline one."""

    @property
    def name(self) -> str: ...

    def propose(self, subject: Subject, streams: Sequence[Stream], feedback: Feedback) -> Offer:
        """An offer for a round; what is wrong with it is found out later."""
        ...


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Parameters
    ----------
    proposals : that were new.
    standing : properties that are proven or hold to a depth after it.
    falsified : so far; ``falsified_new`` of those that were new in it.
    """

    number: int
    proposals: int
    points: float
    available: float
    killed: int
    standing: int
    falsified: int
    falsified_new: int


@dataclass(frozen=True)
class Result:
    """The end of a campaign.

    Parameters
    ----------
    judgements : of every proposal of every round; of those that are redundant, in ``needless``.
    mutants, kills : in the order of their numbers; ``differences`` of those that survived a round.
    status : ``target``, ``rounds``, ``no progress`` or ``budget``: why it ended.
    """

    subject: Subject
    settings: Settings
    streams: tuple[Stream, ...]
    judgements: tuple[Judgement, ...]
    needless: tuple[Property, ...]
    mutants: tuple[Mutant, ...]
    kills: tuple[Kill, ...]
    checked: tuple[Property, ...]
    differences: dict[int, Difference]
    coverage: Coverage | None
    functional: dict[str, bool]
    golden: Golden | None
    grade: Grade
    rounds: tuple[Round, ...]
    status: str
    notes: tuple[str, ...]
    seconds: float

    @property
    def violations(self) -> list[Judgement]:
        """What the specification requires and the design does not do."""
        return [
            j for j in self.judgements
            if j.source == "spec" and (j.status == "falsified" or (j.kind == "cover" and j.status == "vacuous"))
        ]  # fmt: skip

    @property
    def violates(self) -> bool:
        """Whether the design does not do what it must."""
        return self.grade.failed or bool(self.violations)


def run_campaign(
    subject: Subject, settings: Settings, folder: Path, progress: Progress, *,
    proposers: Sequence[Proposer] = (), required: Sequence[Proposal] = (),
    reference: Reference | None = None, own_mutants: bool = False,
) -> Result:  # fmt: skip
    """Verify a design.

    Parameters
    ----------
    required : what the specification states in the language of properties.
    reference : the golden model; its scenarios are played behind the random inputs, and whatever it can
        judge of the ports must agree with it.
    own_mutants : only of the module itself, not of what it instantiates.

    Raises
    ------
    ToolError
        If a tool that is needed is missing or cannot work with the design at all.
    """
    return Campaign(
        subject, settings, folder, progress, proposers, required, reference, own_mutants
    ).run()


@dataclass
class Campaign:
    """A verification under way."""

    subject: Subject
    settings: Settings
    folder: Path
    progress: Progress
    proposers: Sequence[Proposer]
    required: Sequence[Proposal]
    reference: Reference | None
    own_mutants: bool
    scenarios: list[Columns] = field(init=False, default_factory=list)
    streams: tuple[Stream, ...] = field(init=False)
    assumed: list[Property] = field(init=False, default_factory=list)
    rows: list[dict[str, int]] = field(init=False, default_factory=list)
    offered: list[dict[str, int]] = field(init=False, default_factory=list)
    judgements: dict[str, Judgement] = field(init=False, default_factory=dict)
    needless: dict[str, Property] = field(init=False, default_factory=dict)
    differences: dict[int, Difference] = field(init=False, default_factory=dict)
    kills: list[Kill] = field(init=False, default_factory=list)
    checked: list[Property] = field(init=False, default_factory=list)
    rounds: list[Round] = field(init=False, default_factory=list)
    notes: list[str] = field(init=False, default_factory=list)
    started: float = field(init=False, default_factory=time.monotonic)

    def run(self) -> Result:
        subject, settings = self.subject, self.settings
        self.streams = find_streams(subject)
        with self.progress.step("simulator"):
            watch = list(dict.fromkeys([*subject.signals, *(p.name for p in subject.ports)]))
            recorder = build_simulator(subject, self.folder / "trace", watch=watch)
        self.scenarios = self._scenarios()
        mutants = choose_mutants(subject, settings.mutants, settings.seed, own=self.own_mutants)
        mutated = write_mutants(subject, mutants, self.folder / "mutants")
        environment = self._environment()
        status = "rounds"
        coverage: Coverage | None = None
        compared: Golden | None = None
        outcome = None
        trace = self._trace(recorder, 1)
        for number in range(1, settings.rounds + 1):
            began = time.monotonic()
            if number > 1:
                trace = self._trace(recorder, number)
            compared = self._compare(trace)
            proposed = self._propose(trace, mutants, coverage, number)
            with self.progress.step(f"judge {number}", f"{len(proposed)} properties"):
                self._judge(proposed, environment, trace)
            with self.progress.step(f"mutants {number}") as step:
                self._mutate(mutants, mutated, environment)
                step.detail = f"{self._killed()} of {len(mutants)} killed"
            with self.progress.step(f"coverage {number}"):
                coverage = self._cover(trace, environment)
            functional = self._functional(trace)
            before, outcome = outcome, self._grade(coverage, functional, mutants, compared)
            falsified = sum(j.status == "falsified" for j in self.judgements.values())
            self.rounds.append(
                Round(
                    number, len(proposed), outcome.points, outcome.available, self._killed(),
                    sum(j.earns for j in self.judgements.values()), falsified,
                    falsified - (self.rounds[-1].falsified if self.rounds else 0),
                )
            )  # fmt: skip
            if outcome.percent >= settings.target:
                status = "target"
                break
            now = time.monotonic()
            if now - self.started + (now - began) > settings.seconds:  # another would not fit
                status = "budget"
                break
            grew = self._learn()
            if before is not None and outcome.points <= before.points + 0.05 and not grew:
                status = "no progress"
                break
        assert outcome is not None
        return Result(
            subject, settings, self.streams, tuple(self.judgements.values()),
            tuple(self.needless.values()), tuple(mutants), tuple(self.kills), tuple(self.checked),
            dict(self.differences), coverage, self._functional(trace), compared, outcome,
            tuple(self.rounds), status, tuple(self.notes), time.monotonic() - self.started,
        )  # fmt: skip

    def _environment(self) -> list[Property]:
        """What streams into the design promise, and what the specification assumes."""
        promised = []
        for s in self.streams:
            if s.into:
                # The names are of inputs and of the ready that answers them, so admit() would refuse it.
                kept = " && ".join([s.valid, *(f"stable({p})" for p in s.payload)])
                promised.append((f"{s.valid}_waits", f"{s.valid} && !{s.ready} |=> {kept}"))
        known = [
            Property(name, parse_property(text, self.subject.widths), "assume", "protocol")
            for name, text in promised
        ]
        assumed = [p for p in self.required if p.kind == "assume"]
        self.assumed = [p for p in admit(assumed, self.subject) if isinstance(p, Property)]
        return [*known, *self.assumed]

    def _trace(self, recorder: Simulator, number: int) -> Trace:
        stimulus = self._stimulus()
        with self.progress.step(f"simulate {number}", f"{stimulus.cycles} cycles"):
            return record(recorder, stimulus, self.streams)

    def _stimulus(self) -> Stimulus:
        cycles = self.settings.cycles + 2 * len(self.rows)
        stimulus = draw_stimulus(self.subject, cycles, self.settings.seed, self.rows)
        stimulus, broken = respecting(self.subject, stimulus, self.assumed)
        for name in broken:
            self._note(f"the stimulus does not keep to assumption {name} in every cycle")
        return followed(self.subject, stimulus, self.scenarios, self.settings.seed)

    def _scenarios(self) -> list[Columns]:
        """What the golden model's testbench plays; the same in every round."""
        if self.reference is None:
            return []
        random = np.random.default_rng(self.settings.seed)
        return [
            self.reference.play(random, count, k)
            for k, count in enumerate(self.reference.lengths(self.settings.cycles))
        ]

    def _compare(self, trace: Trace) -> Golden | None:
        """What the golden model says of a trace, segment by segment."""
        if self.reference is None:
            return None
        planned = trace.cycles - sum(
            SCENARIO_RESET + len(next(iter(s.values()))) for s in self.scenarios
        )
        ports = [p.name for p in self.subject.ports]
        scenarios = passed = values = 0
        for segment in segments(trace, ports, planned):
            outcome = self.reference.compare(segment)
            values += outcome.compared
            scenarios += outcome.compared > 0
            passed += outcome.compared > 0 and outcome.wrong is None
            if outcome.wrong is not None:
                self._note(f"in cycle {segment.start + outcome.wrong} {outcome.note}")
        return Golden(scenarios, passed, values, self.reference.what)

    def _propose(
        self, trace: Trace, mutants: Sequence[Mutant], coverage: Coverage | None, number: int
    ) -> list[Property]:
        offers = [p for p in self.required if p.kind != "assume"] if number == 1 else []
        missed = (
            [f"{p.file}:{p.line} {p.kind} {p.what}" for p in coverage.missed()] if coverage else []
        )
        feedback = Feedback(
            number, list(self.judgements.values()), self._survivors(mutants), missed
        )
        for proposer in self.proposers:
            with self.progress.step(f"{proposer.name} {number}"):
                offer = proposer.propose(self.subject, self.streams, feedback)
                offers += offer.proposals
                self.offered += offer.rows
        limits = MineLimits(total=self.settings.proposals)
        offers += self._believable(mine(self.subject, trace, self.streams, limits))
        fresh: list[Property] = []
        for entry in admit(offers, self.subject):
            key = f"{entry.kind} {entry.text}"
            if key in self.judgements or key in self.needless:
                continue
            if isinstance(entry, Judgement):
                self.judgements[key] = entry
            elif key not in {f"{p.kind} {p.text}" for p in fresh}:
                fresh.append(entry)
        return fresh

    def _believable(self, mined: Sequence[Proposal]) -> list[Proposal]:
        """What was mined, less what is about signals of which it has mostly been wrong.

        Where the inputs hardly ever meet what a signal depends on, a trace suggests one falsehood after
        another; the next one is no better for the last one's counterexample.
        """
        right: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        for judgement in self.judgements.values():
            if judgement.source == "offline" and judgement.item is not None:
                about = subject_of(judgement.item.body)
                right[about] += judgement.earns
                wrong[about] += judgement.status == "falsified"
        kept = []
        for proposal in mined:
            try:
                about = subject_of(parse_property(proposal.property, self.subject.widths))
            except PropertyError:
                continue
            if wrong[about] * WRONG_FOR_RIGHT <= right[about] or not wrong[about]:
                kept.append(proposal)
        return kept

    def _judge(
        self, fresh: Sequence[Property], environment: Sequence[Property], trace: Trace
    ) -> None:
        waiting = list(fresh)
        for attempt in range(SIFTINGS):
            chosen, needless = self._sifted(waiting)
            ruled = self._ruled(chosen, environment, trace)
            for judgement in ruled:
                self.judgements[f"{judgement.kind} {judgement.text}"] = judgement
            stand = all(j.earns for j in ruled if j.source == "offline")
            if stand or not needless or attempt == SIFTINGS - 1:
                self.needless |= needless
                return
            # What follows from a falsehood may say something after all.
            waiting = list(needless.values())

    def _sifted(self, fresh: Sequence[Property]) -> tuple[list[Property], dict[str, Property]]:
        """What is judged, and of what was mined that which follows from it or from what stands already.

        What somebody asked for is judged in any case.
        """
        good = [j.item for j in self.judgements.values() if j.earns and j.item]
        given = [p for p in fresh if p.source != "offline"]
        mined = [p for p in fresh if p.source == "offline"]
        ordered = [*good, *given, *mined]
        verdicts = (
            redundant(ordered, self.folder / "redundant", self.settings.effort) if mined else []
        )
        needless = {
            f"{item.kind} {item.text}": item
            for item, no in zip(ordered[len(good) :], verdicts[len(good) :], strict=bool(mined))
            if no and item.source == "offline"
        }
        return [p for p in [*given, *mined] if f"{p.kind} {p.text}" not in needless], needless

    def _ruled(
        self, chosen: Sequence[Property], environment: Sequence[Property], trace: Trace
    ) -> list[Judgement]:
        left = self.settings.seconds - (time.monotonic() - self.started)
        properties, folder = [*environment, *chosen], self.folder / "proofs"
        seed, effort = self.settings.seed, self.settings.effort
        try:
            ruled = rule(
                self.subject, properties, trace, folder, effort, seed=seed, proofs=left > 0
            )
        except ToolError as error:
            self._note(f"no proofs: {error}")
            ruled = rule(self.subject, properties, trace, folder, effort, seed=seed, proofs=False)
        return ruled[len(environment) :]

    def _mutate(
        self, mutants: Sequence[Mutant], mutated: Path, environment: Sequence[Property]
    ) -> None:
        subject = self.subject
        self.checked = [j.item for j in self.judgements.values() if j.earns and j.item]
        checker = write_checker([*self.checked, *environment], subject.edge)
        simulator = build_simulator(
            subject, self.folder / "killing", design=mutated, mutants=len(mutants), checker=checker
        )
        kills, _ = simulator.run(
            self._stimulus(), self.streams, seconds=self.settings.seconds, enough=len(self.checked)
        )
        if len(kills) < len(mutants) + 1:
            self._note(f"only {len(kills) - 1} of {len(mutants)} mutants were played in time")
        self.kills = kills
        alive = [
            k.mutant for k in kills[1:]
            if k.difference is None and not k.violated and k.mutant not in self.differences
        ][:COMPARED]  # fmt: skip
        try:
            found = compare(
                subject, mutated, alive, self.streams, self.folder / "miters", self.settings.effort
            )
        except ToolError as error:
            self._note(f"survivors were not compared: {error}")
            found = []
        self.differences |= {d.mutant: d for d in found}

    def _cover(self, trace: Trace, environment: Sequence[Property]) -> Coverage | None:
        """Coverage by Verilator, with as many of the properties beside the design as it can name."""
        every = [*self.checked, *environment]
        # A name with a point may be an instance's signal, or an identifier that has one, as of a struct.
        plain = [p for p in every if not any("." in name for name in p.body.signals)]
        failure = ""
        for chosen in (every, plain, None):
            checker = None if chosen is None else write_checker(chosen, self.subject.edge)
            try:
                coverage = measure(self.subject, trace, checker, self.folder / "coverage")
            except ToolError as error:
                failure = str(error)
                continue
            if chosen is not every:
                count = len(chosen) if chosen else 0
                self._note(f"Verilator looked at {count} of {len(every)} properties: {failure}")
            if not coverage.agrees:
                self._note(coverage.note)
            return coverage
        self._note(failure)
        return None

    def _functional(self, trace: Trace) -> dict[str, bool]:
        """Points of function: what each stream can do, and the covers that were asked for."""
        found = {}
        for s in self.streams:
            if s.valid in trace.values and s.ready in trace.values:
                valid, ready = (
                    trace.values[n].astype(bool) & ~trace.reset for n in (s.valid, s.ready)
                )
                live = ~trace.reset
                found[f"{s.valid}: transfer"] = bool((valid & ready).any())
                found[f"{s.valid}: waits"] = bool((valid & ~ready & live).any())
                found[f"{s.valid}: idle"] = bool((~valid & ready & live).any())
                found[f"{s.valid}: two in a row"] = bool(
                    (valid[1:] & ready[1:] & valid[:-1] & ready[:-1]).any()
                )
        for judgement in self.judgements.values():
            if judgement.kind == "cover" and judgement.status != "refused":
                found[f"cover {judgement.name}"] = judgement.hits > 0
            elif judgement.earns:
                found[f"condition of {judgement.name}: {judgement.text}"] = judgement.hits > 0
        return found

    def _grade(
        self, coverage: Coverage | None, functional: dict[str, bool], mutants: Sequence[Mutant],
        compared: Golden | None,
    ) -> Grade:  # fmt: skip
        registers = sum(s.register and "." not in s.name for s in self.subject.signals.values())
        wanted = max(4, 2 * len(self.streams) + min(registers, 12))
        equivalent = sum(d.verdict == "equivalent" for d in self.differences.values())
        killed = self.kills[1:]
        counts = MutantCounts(
            len(killed), equivalent, self._killed(), sum(k.difference is not None for k in killed),
            sum(bool(self._violated(k)) for k in killed),
        )  # fmt: skip
        return grade(
            coverage, (sum(functional.values()), len(functional)), list(self.judgements.values()),
            len(self.needless), wanted, counts, compared,
        )  # fmt: skip

    def _violated(self, kill: Kill) -> list[int]:
        """Properties of the design, not assumptions, that a mutant violates."""
        return [k for k in kill.violated if k < len(self.checked)]

    def _killed(self) -> int:
        return sum(k.difference is not None or bool(self._violated(k)) for k in self.kills[1:])

    def _survivors(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        alive = {
            k.mutant for k in self.kills[1:] if k.difference is None and not self._violated(k)
        } - {d.mutant for d in self.differences.values() if d.verdict == "equivalent"}  # fmt: skip
        return [m for m in mutants if m.number in alive]

    def _learn(self) -> bool:
        """Turn what was found into directed inputs of the next round; whether there are any."""
        new = list(self.offered)
        for judgement in self.judgements.values():
            new += judgement.rows
        for difference in self.differences.values():
            if difference.wave is not None:
                new += directed(self.subject, difference.wave)
        grew = len(new) > len(self.rows)
        self.rows = new[: 2 * self.settings.cycles]
        return grew

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
