"""From MovieLens-100K to recommendations over gRPC. Run it with `make demo`.

It writes the trained model, the exported model and the report to `.runs/demo`.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import tfrec_meta as tm
from tfrec_meta.data import user_histories
from tfrec_meta.keras import hide_tensorflow_errors
from tfrec_meta.serving import Catalogue, Client

# TensorFlow's log messages would hide the output of the demo; errors are still raised.
hide_tensorflow_errors()
logging.getLogger("tensorflow").setLevel(logging.ERROR)

FOLDER = Path(".runs/demo")
KNOWN_USERS = ("42", "308")
THREE_FILMS = ("Star Wars", "Alien", "Blade Runner")


def main() -> None:
    began = time.monotonic()

    step("1. Fetch: 100,000 ratings from MovieLens (for research use; kept in a cache folder)")
    data = tm.movielens("100k")
    split = tm.split_by_item(data, train=0.75, seed=42)
    print(f"{data!r}\n{len(split.train):,} training events, {len(split.test):,} test events")

    step("2. Train: a two-tower model")
    model = tm.train(split)
    tm.save(model, FOLDER / "model", overwrite=True)
    seconds = sum(epoch["seconds"] for epoch in model.curve)
    print(f"{len(model.curve)} epochs in {seconds:.0f} s, saved in {FOLDER / 'model'}")

    step("3. Evaluate: all films are ranked for every user, next to four baselines")
    found = tm.evaluate(model, split)
    print(f"{'':<12}NDCG@10 (95 % interval)      recall@10   films shown to anyone")
    for name, one in found.items():
        shown = (f"{one[m].value:>9.4f}" for m in ("recall@10", "coverage@10"))
        print(f"{name:<12}{one['ndcg@10']!s:<27}" + "   ".join(shown))
    print("\n".join([*found.remarks(), *found.summary()]))

    step("4. Export: a SavedModel that TF Serving loads")
    version = tm.export(model, FOLDER / "models" / "movies", evaluations=found)
    print(f"{version} with {sum(1 for _ in version.rglob('*'))} files")

    step("5. Serve: in a separate process, on a free port")
    with served(version.parent) as address:
        step("6. Request recommendations over gRPC")
        show_recommendations(address, Catalogue.read(version), split.train)

    step("7. Report")
    page = tm.report(FOLDER / "report.html", model, split, found, users=KNOWN_USERS)
    print(f"{page.resolve()}\nDone in {time.monotonic() - began:.0f} s.")


@contextlib.contextmanager
def served(base: Path) -> Iterator[str]:
    """Starts a server process for one model; yields its host:port once it answers."""
    command = [sys.executable, "-m", "tfrec_meta.commands.main", "serve", str(base), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"error: the server ended with status {server.wait()}, see above.")
        address = line.split()[-1]
        print(f"pid {server.pid} listens on {address}")
        yield address
    finally:
        server.send_signal(signal.SIGTERM)  # the server finishes the calls in progress, then ends
        status = server.wait(timeout=60)
    print(f"\nThe server was stopped and ended with status {status}.")
    if status != 0:
        raise SystemExit(f"error: the server should have ended with 0, not {status}.")


def show_recommendations(address: str, films: Catalogue, past: tm.Interactions) -> None:
    """Prints the recommendations of the served model for three users."""
    with Client(address, model="movies") as client:
        for user, history in zip(KNOWN_USERS, user_histories(past, KNOWN_USERS, 1000), strict=True):
            show(f"User {user}", films, [item for item in history if item], client, user)

        by_title = {films.title(item): item for item in films}
        favourites = [by_title[title] for title in THREE_FILMS]
        show("A new user", films, favourites, client, "new-user")


def show(who: str, films: Catalogue, history: list[str], client: Client, user: str) -> None:
    latest = ", ".join(films.title(item) for item in history[-3:])
    more = f" and {len(history) - 3} more" if len(history) > 3 else ""
    print(f"\n{who} has seen {latest}{more}. Next might be:")
    for position, one in enumerate(client.recommend(user, history=history, k=5), 1):
        about = films.attributes(one.item_id)
        print(f"  {position}. {about['title']} ({about['year']}; {', '.join(about['genres'])})")


def step(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
