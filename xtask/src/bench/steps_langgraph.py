# Durable steps with LangGraph and its SQLite checkpointer: RUNS threads at once, each of STEPS steps of about 800 bytes.
import json, sqlite3, sys, threading, time
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

runs, steps, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
times = []


class State(TypedDict):
    number: int
    text: str


def step(state):
    return {"number": state["number"] + 1, "text": f"{state['number']:0>800}"}


graph = StateGraph(State)
graph.add_node("step", step)
graph.add_edge(START, "step")
graph.add_conditional_edges("step", lambda state: END if state["number"] >= steps else "step")
saver = SqliteSaver(sqlite3.connect(f"{folder}/langgraph.sqlite", check_same_thread=False))
saver.setup()
app = graph.compile(checkpointer=saver)


def work(run):
    config = {"configurable": {"thread_id": str(run)}, "recursion_limit": steps + 10}
    last = time.perf_counter()
    # Each update comes when its checkpoint was written.
    for _ in app.stream({"number": 0, "text": ""}, config, stream_mode="updates", durability="sync"):
        now = time.perf_counter()
        times.append(now - last)
        last = now


began = time.perf_counter()
threads = [threading.Thread(target=work, args=(run,)) for run in range(runs)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.perf_counter() - began
assert len(times) == runs * steps, f"{len(times)} steps were done"
times.sort()
print(json.dumps({
    "per_second": len(times) / took,
    "p50_ms": times[len(times) // 2] * 1e3,
    "p99_ms": times[len(times) * 99 // 100] * 1e3,
}))
