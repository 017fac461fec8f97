#!/usr/bin/env python3
"""A Statehouse worker in one file, with nothing but Python's standard library (3.9 or later).

Three calls are the whole protocol: lease a task, keep the lease alive while you work, report how it ended.

    python3 worker.py --server http://127.0.0.1:7400 --token-file statehouse-data/dev-token \\
        --queue charge-card --queue refund-card

Write a function for each queue in HANDLERS and run as many copies of this program as you like. A worker may die at
any moment: its lease runs out and another one gets the task, with the same `idempotency_key` and the next `token`.
Hand the key on to whatever must not happen twice.

Limits, on purpose: one task at a time in a process. Interrupt it once (SIGINT or SIGTERM) and it finishes what it
holds.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

# How long the server holds a lease call open when there is nothing to do.
WAIT_MS = 20_000
# How long a lease lives without a heartbeat.
LEASE_MS = 30_000
# How often a report is tried; a repeat is harmless, because task and token name it.
ATTEMPTS = 8


class TaskError(Exception):
    """Why an attempt failed. `code` is stable: definitions and their guards see it."""

    def __init__(self, code, message, retryable=True):
        super().__init__(message)
        self.code, self.message, self.retryable = code, message, retryable


class Refused(Exception):
    """The server has said no, and will not say yes to a repeat."""


def charge_card(task):
    """An example: declines one card, takes every other."""
    if task["input"].get("token") == "declined":
        raise TaskError("card_declined", "the bank says no", retryable=False)
    return {"chargeId": "c-" + task["idempotency_key"]}


HANDLERS = {
    "reserve-stock": lambda task: {"reservationId": "r-" + task["instance"]},
    "charge-card": charge_card,
    "create-shipment": lambda task: {"trackingId": "t-" + task["instance"]},
}


class Client:
    """The calls that a worker needs."""

    def __init__(self, server, tenant, token):
        self.base = f"{server.rstrip('/')}/v1/tenants/{urllib.parse.quote(tenant, safe='')}/tasks"
        self.token = token

    def post(self, path, body, traceparent=None, timeout=30):
        """Posts JSON and returns the answer; raises Refused for what no repeat will change."""
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        if traceparent:
            # The report becomes part of the instance's trace.
            headers["traceparent"] = traceparent
        request = urllib.request.Request(
            f"{self.base}/{path}", json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code in (408, 429) or error.code >= 500:
                raise OSError(f"HTTP {error.code}: {said}") from error
            raise Refused(f"HTTP {error.code}: {said}") from error

    def lease(self, queues, worker):
        body = {"queues": queues, "max": 1, "lease_ms": LEASE_MS, "wait_ms": WAIT_MS, "worker": worker}
        return self.post("lease", body, timeout=WAIT_MS / 1000 + 10)["tasks"]

    def report(self, task, how, body):
        """Reports until the server has answered."""
        path = f"{urllib.parse.quote(task['id'], safe='')}/{how}"
        for attempt in range(ATTEMPTS):
            try:
                return self.post(path, {"token": task["token"], **body}, task.get("traceparent"))
            except OSError as error:
                last = error
                time.sleep(min(5, 0.1 * 2**attempt))
        raise last


def keep_alive(client, task, done):
    """Renews the lease until the work is done; a lease that is lost is told at the report."""
    while not done.wait(task["lease_ms"] / 3000):
        try:
            client.post(f"{urllib.parse.quote(task['id'], safe='')}/heartbeat", {"token": task["token"]})
        except (OSError, Refused):
            return


def work_on(client, task):
    """Runs one task and reports it."""
    done = threading.Event()
    threading.Thread(target=keep_alive, args=(client, task, done), daemon=True).start()
    try:
        try:
            how, body = "complete", {"output": HANDLERS[task["queue"]](task)}
        except TaskError as error:
            how = "fail"
            body = {"code": error.code, "message": error.message, "retryable": error.retryable}
        except Exception as error:  # A bug of a handler is a failed attempt, not the end of the worker.
            how, body = "fail", {"code": "exception", "message": repr(error)[:1000], "retryable": True}
    finally:
        done.set()
    try:
        client.report(task, how, body)
        print(f"{task['id']} {task['queue']} attempt {task['attempt']}: {how}", flush=True)
    except (OSError, Refused) as error:
        # Nothing is lost: if the report did not arrive, the lease runs out and the task is given again.
        print(f"{task['id']} {task['queue']}: not reported: {error}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:7400")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--token-file", type=pathlib.Path, help="else STATEHOUSE_TOKEN")
    parser.add_argument("--queue", action="append", choices=sorted(HANDLERS), help="may be repeated; all if left out")
    arguments = parser.parse_args()
    token = os.environ.get("STATEHOUSE_TOKEN")
    if arguments.token_file:
        token = arguments.token_file.read_text().strip()
    client = Client(arguments.server, arguments.tenant, token)
    queues = arguments.queue or sorted(HANDLERS)

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    pause = 0.1
    while not stopped.is_set():
        try:
            tasks = client.lease(queues, f"python-{os.getpid()}")
            pause = 0.1
        except Refused as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            print(f"the server does not answer, trying again: {error}", file=sys.stderr, flush=True)
            stopped.wait(pause)
            pause = min(5, pause * 2)
            continue
        for task in tasks:
            work_on(client, task)


if __name__ == "__main__":
    main()
