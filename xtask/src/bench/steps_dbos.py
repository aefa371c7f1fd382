# Durable steps with DBOS on SQLite: RUNS workflows at once, each of STEPS steps of about 800 bytes.
import json, sys, threading, time

from dbos import DBOS, DBOSConfig

runs, steps, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
DBOS(config=DBOSConfig(name="bench", system_database_url=f"sqlite:///{folder}/dbos.sqlite", run_admin_server=False, log_level="ERROR"))
times = []


@DBOS.step()
def step(number):
    return f"{number:0>800}"


@DBOS.workflow()
def work(run):
    for number in range(steps):
        began = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - began)


DBOS.launch()
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
DBOS.destroy()
