"""The state machine under any interleaving: hypothesis chooses who has the turn, who dies, and what services answer.

On PostgreSQL the transactions run at the same time, each in a thread that stops at every statement; on SQLite, which
has one writer, threads stop where a service is called. What fails is shrunk, and its schedule is printed.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from commands.tests.fake_services import ANSWERS
from commands.tests.interleaving import Turns
from commands.tests.state_machine import EVENTS, OF_THREADS, OTHERS, THREADS, Other, Run, Schedule

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES, MANY_EXAMPLES = 30, 2000

# Rather a few than many, so that much happens early on and close together; but not only.
steps = st.integers(0, 12) | st.integers(0, 150)
lengths = st.integers(1, 4) | st.integers(1, 40)
choices = st.integers(0, OF_THREADS + len(EVENTS) - 1)
schedules = st.builds(
    Schedule,
    others=st.lists(st.builds(Other, st.sampled_from(OTHERS), steps), max_size=5),
    turns=st.lists(st.tuples(choices, lengths), min_size=4, max_size=40).filter(
        lambda turns: any(choice < OF_THREADS for choice, _length in turns)
    ),
    deaths=st.frozensets(st.integers(1, 200), max_size=3),
    answers=st.lists(st.sampled_from(("good", "good", *ANSWERS)), max_size=16).map(tuple),
    deadline=st.sampled_from((None, None, None, 3.0, 100.0)),
)
for_threads = settings(
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns(THREADS)
    yield turns
    turns.end()


def hold(turns, user, schedule):
    run = Run(turns, user)
    try:
        run.follow(schedule)
    finally:
        turns.finish()
        note("\n".join(turns.trace))


@pytest.mark.timeout(300)  # it takes some seconds, of a processor of its own
@settings(for_threads, max_examples=EXAMPLES)
@given(schedule=schedules)
def test_every_promise_holds_in_any_interleaving(alice, turns, schedule):
    hold(turns, alice, schedule)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(for_threads, max_examples=MANY_EXAMPLES, derandomize=False)
@given(schedule=schedules)
def test_every_promise_holds_in_very_many_interleavings(alice, turns, schedule):
    hold(turns, alice, schedule)
