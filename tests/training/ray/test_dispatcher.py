import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.common.errors import MachineFault
from orchestrator.training.ray import dispatcher as dispatcher_module
from orchestrator.training.ray.dispatcher import MAX_LOSSES, MAX_STARTS, MAX_WORKER_FAILURES, Dispatcher

ROW = {"epoch": 0}
FULL = MachineFault("/home/x", "no space left on device")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(dispatcher_module, "PATIENCE_S", 0.05)


def talk(conversation: Callable[[Dispatcher], Awaitable[None]]) -> None:
    """Let a conversation with a new dispatcher take place in one event loop."""

    async def begin() -> None:
        await conversation(Dispatcher())

    asyncio.run(begin())


def test_jobs_are_handed_out_in_the_order_in_which_they_came():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.submit("b", b"2")
        assert await dispatcher.take(0) == ("a", b"1")
        assert await dispatcher.take(1) == ("b", b"2")
        assert await dispatcher.take(2) == "wait"

    talk(conversation)


def test_a_lane_that_waits_is_given_the_next_job_at_once():
    async def conversation(dispatcher):
        waiting = asyncio.create_task(dispatcher.take(0))
        await asyncio.sleep(0)
        await dispatcher.submit("a", b"1")
        assert await waiting == ("a", b"1")

    talk(conversation)


def test_who_follows_hears_every_row_and_the_end():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        assert await dispatcher.follow({"a": 0}) == {}
        await dispatcher.take(0)
        assert await dispatcher.progress(0, "a", ROW)
        update = (await dispatcher.follow({"a": 0}))["a"]
        assert (update.state, update.rows) == ("running", (ROW,))
        await dispatcher.end(0, "a", "finished")
        update = (await dispatcher.follow({"a": 1}))["a"]
        assert (update.state, update.rows) == ("finished", ())

    talk(conversation)


def test_who_follows_several_jobs_hears_of_those_with_news():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.submit("b", b"2")
        await dispatcher.take(0)
        await dispatcher.progress(0, "a", ROW)
        assert list(await dispatcher.follow({"a": 0, "b": 0})) == ["a"]

    talk(conversation)


def test_a_job_that_is_asked_for_twice_is_handed_out_once():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.submit("a", b"1")
        assert await dispatcher.take(0) == ("a", b"1")
        assert await dispatcher.take(1) == "wait"

    talk(conversation)


def test_a_shared_job_goes_on_until_the_last_one_leaves():
    async def conversation(dispatcher):
        for follower in ("one", "other", "one"):  # again: its process was killed, and is back
            await dispatcher.submit("a", b"1", follower)
        await dispatcher.take(0)
        await dispatcher.leave("a", "one")
        assert await dispatcher.progress(0, "a", ROW)
        await dispatcher.leave("a", "other")
        assert not await dispatcher.progress(0, "a", ROW)

    talk(conversation)


def test_a_queued_job_that_nobody_wants_is_never_started():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.leave("a")
        assert (await dispatcher.follow({"a": 0}))["a"].state == "stopped"
        assert await dispatcher.take(0) == "wait"

    talk(conversation)


def test_a_job_that_was_stopped_or_failed_can_be_asked_for_again():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.take(0)
        await dispatcher.end(0, "a", "failed", "out of memory")
        await dispatcher.submit("a", b"1")
        assert await dispatcher.follow({"a": 0}) == {}
        assert await dispatcher.take(0) == ("a", b"1")

    talk(conversation)


def test_a_lane_that_died_is_given_its_job_back_and_no_other_lane_is():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.submit("b", b"2")
        await dispatcher.take(0)
        assert await dispatcher.take(1) == ("b", b"2")
        assert await dispatcher.take(0) == ("a", b"1")

    talk(conversation)


def test_a_job_whose_lane_died_too_often_fails_with_the_last_error():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for _ in range(MAX_STARTS):
            assert await dispatcher.take(0) == ("a", b"1")
            await dispatcher.job_crashed("a", "RuntimeError: no space left")
        assert await dispatcher.take(0) == "wait"
        update = (await dispatcher.follow({"a": 0}))["a"]
        assert update.state == "failed"
        assert update.error == f"tried {MAX_STARTS} times; RuntimeError: no space left"

    talk(conversation)


def test_what_ran_on_a_node_that_is_gone_is_the_next_job_of_another_lane():
    async def conversation(dispatcher):
        for number, job_id in enumerate("abc"):
            await dispatcher.submit(job_id, job_id.upper().encode())
            await dispatcher.take(number, "", [f"node {number}", "node 3"] if number else ["node 0"])
        await dispatcher.submit("d", b"D")
        await dispatcher.nodes_lost(["node 1", "node 9"])
        assert not await dispatcher.progress(1, "b", ROW)  # a worker that was only out of reach
        await dispatcher.end(1, "b", "failed", "nobody answers")
        assert await dispatcher.take(4) == ("b", b"B")
        assert await dispatcher.progress(4, "b", ROW)
        assert await dispatcher.progress(2, "c", ROW)
        assert await dispatcher.take(1) == ("d", b"D")

    talk(conversation)


def test_nodes_that_go_do_not_wear_a_job_out():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for number in range(2 * MAX_STARTS):
            assert await dispatcher.take(number, "", [f"node {number}"]) == ("a", b"1")
            await dispatcher.nodes_lost([f"node {number}"])
        assert await dispatcher.take(99) == ("a", b"1")

    talk(conversation)


def test_a_job_that_nobody_wants_any_more_is_not_handed_out_again():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.take(0, "", ["node 0"])
        await dispatcher.nodes_lost(["node 0"])
        await dispatcher.leave("a")
        assert await dispatcher.take(1) == "wait"
        await dispatcher.submit("b", b"2")
        await dispatcher.take(1, "", ["node 1"])
        await dispatcher.leave("b")
        await dispatcher.nodes_lost(["node 1"])
        assert await dispatcher.take(2) == "wait"

    talk(conversation)


def test_others_have_what_a_lane_held_whose_run_has_ended():
    """It may find no room for as long as somebody else has its GPU."""

    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.take(0)
        waiting = asyncio.create_task(dispatcher.take(1))
        await asyncio.sleep(0)
        assert await dispatcher.lane_ended(0)
        assert await waiting == ("a", b"1")

    talk(conversation)


def test_a_job_is_not_handed_to_workers_that_are_gone():
    async def conversation(dispatcher):
        dead = asyncio.create_task(dispatcher.take(0, "first"))
        await asyncio.sleep(0)
        living = asyncio.create_task(dispatcher.take(0, "second"))
        await asyncio.sleep(0)
        await dispatcher.submit("b", b"2")
        assert await dead == "wait" and await living == ("b", b"2")
        await dispatcher.end(0, "b", "finished")
        dead = asyncio.create_task(dispatcher.take(0, "first"))
        await asyncio.sleep(0)
        await dispatcher.lane_ended(0)
        await dispatcher.submit("a", b"1")
        assert await dead == "wait"
        assert await dispatcher.take(0, "third") == ("a", b"1")

    talk(conversation)


def test_a_dispatcher_that_was_started_again_leaves_a_fit_with_who_holds_it():
    async def conversation(dispatcher):
        assert not await dispatcher.progress(0, "a", ROW)
        await dispatcher.end(0, "a", "stopped")
        await dispatcher.job_crashed("a", "killed")
        await dispatcher.leave("a")
        assert (await dispatcher.follow({"a": 7}))["a"].state == "stopped"
        await dispatcher.submit("a", b"1")
        assert await dispatcher.follow({"a": 0}) == {}
        assert await dispatcher.progress(3, "a", ROW)
        assert await dispatcher.take(0) == "wait"
        assert (await dispatcher.follow({"a": 0}))["a"].rows == (ROW,)
        await dispatcher.end(3, "a", "finished")
        assert (await dispatcher.follow({"a": 1}))["a"].state == "finished"

    talk(conversation)


def test_a_lane_says_whether_it_was_ever_up():
    async def conversation(dispatcher):
        assert not await dispatcher.lane_ended(0)
        await dispatcher.take(0)
        assert (await dispatcher.count())[0] == 1
        assert await dispatcher.lane_ended(0)
        assert (await dispatcher.count())[0] == 0

    talk(conversation)


def test_a_start_with_less_memory_to_need_is_not_counted():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        assert await dispatcher.take(0) == ("a", b"1")
        for _ in range(2 * MAX_STARTS):
            await dispatcher.job_crashed("a", "8 images at a time do not fit", is_uncounted=True)
            await dispatcher.job_crashed("a", "connection closed by peer")
            assert await dispatcher.take(0) == ("a", b"1")
        for _ in range(MAX_STARTS - 1):
            assert await dispatcher.take(0) == ("a", b"1")
        assert await dispatcher.take(0) == "wait"

    talk(conversation)


def test_closing_sends_lanes_home_and_asks_running_jobs_to_stop():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        await dispatcher.take(0)
        waiting = asyncio.create_task(dispatcher.take(1))
        await asyncio.sleep(0)
        await dispatcher.close()
        assert await waiting is None
        assert not await dispatcher.progress(0, "a", ROW)
        await dispatcher.end(0, "a", "stopped")
        assert await dispatcher.take(0) is None

    talk(conversation)


def test_after_a_fault_of_the_machine_no_job_is_handed_out_and_those_in_flight_stop():
    async def conversation(dispatcher):
        for name in ("a", "b"):
            await dispatcher.submit(name, b"1")
        await dispatcher.take(0)
        await dispatcher.halt(FULL)
        assert await dispatcher.why_halted() is FULL
        assert await dispatcher.take(1) == "wait"
        assert not await dispatcher.progress(0, "a", ROW)

    talk(conversation)


def test_a_job_that_the_machine_fails_every_time_is_stopped_and_never_failed():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for start in range(MAX_STARTS):
            assert await dispatcher.take(0, str(start)) == ("a", b"1")
            await dispatcher.job_crashed("a", "OSError: [Errno 5] Input/output error", fault=FULL)
        await dispatcher.take(0, "next")
        assert (await dispatcher.follow({"a": 0}))["a"].state == "stopped"
        assert await dispatcher.why_halted() is FULL

    talk(conversation)


def test_a_fault_that_passed_is_not_held_against_what_crashes_later():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for start in range(MAX_STARTS):
            await dispatcher.take(0, str(start))
            await dispatcher.job_crashed("a", "a bug", fault=FULL if start == 0 else None)
        await dispatcher.take(0, "next")
        assert (await dispatcher.follow({"a": 0}))["a"].state == "failed"

    talk(conversation)


def test_workers_that_the_machine_takes_cost_a_job_no_start_until_that_never_ends():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for start in range(MAX_STARTS + 2):
            assert await dispatcher.take(0, str(start)) == ("a", b"1")
            await dispatcher.worker_lost(0, FULL)
        assert await dispatcher.why_halted() is None
        await dispatcher.take(0, "again")
        assert await dispatcher.progress(0, "a", ROW) and dispatcher.num_losses == 0
        for _ in range(MAX_LOSSES):
            await dispatcher.worker_lost(0, FULL)
        assert await dispatcher.why_halted() is FULL

    talk(conversation)


def test_workers_that_never_come_as_far_as_asking_for_a_job_halt_the_search_and_others_do_not():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for start in range(MAX_WORKER_FAILURES + 2):  # their jobs fail, and they ask again
            await dispatcher.take(0, str(start))
            assert not await dispatcher.workers_failed(0, FULL)
        for _ in range(MAX_WORKER_FAILURES):
            assert not await dispatcher.workers_failed(1, FULL)
        assert await dispatcher.why_halted() is None
        assert await dispatcher.workers_failed(1, FULL) and await dispatcher.why_halted() is FULL

    talk(conversation)


def test_a_worker_that_the_system_killed_for_want_of_memory_is_a_loss():
    async def conversation(dispatcher):
        await dispatcher.submit("a", b"1")
        for start in range(MAX_STARTS + 1):
            assert await dispatcher.take(0, str(start), num_killed=start) == ("a", b"1")

    talk(conversation)
