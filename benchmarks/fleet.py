"""Time the fleet against the plain loop that a user would write: descendants a second, same jobs.

    python benchmarks/fleet.py --family cnn --jobs 40

The plain loop trains one model after another with what PyTorch offers: a `DataLoader` over images that
torchvision transforms one by one, AdamW with timm's weight-decay groups, the same schedule, clipping and
number of steps, one evaluation at the end, on all threads that PyTorch takes by default. Ours is
`fleet.run`, by default with processes on a CPU and stacked on a GPU. Both build the same descendants from
the same learngene for the same tasks; only the random order and shifts differ, so accuracies must agree
within the noise of seeds, which is tested (two one-sided paired t tests, margin 3 points).

Starting worker processes takes some seconds, whatever the number of jobs. So two ratios are printed:
with the start, at this number of jobs, and of the rates alone, (jobs - few) / (time - time of few). The
ceiling is the number of cores times the rate of one job at a time on one thread: no way of spreading
whole jobs over the cores can be faster than that.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from lgutils import ancestry, fleet, report, ship, train
from lgutils.fleet import Job, backends, jobs

FEW = 4


class Images(Dataset):
    """Images and labels of a task, transformed one by one."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.labels[i]


def plain(job: Job) -> float:
    """Train and evaluate one descendant as in a tutorial."""
    prepared, where = jobs.prepare(job), train.device()
    normalize = prepared.descendant.normalize
    basic = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(normalize.mean, normalize.std)]
    shift = v2.RandomCrop(32, padding=job.fit.shift, padding_mode="reflect")
    training = Images(*prepared.episode.train, v2.Compose([shift, *basic]))
    loader = DataLoader(training, batch_size=job.fit.batch_size, shuffle=True)
    test = DataLoader(Images(*prepared.episode.test, v2.Compose(basic)), batch_size=100)
    model, loss_fn = prepared.descendant.model.to(where), nn.CrossEntropyLoss()
    steps = job.fit.epochs * len(loader)
    optimizer, schedule = train.optimizer_for(model, job.fit, steps)
    step = 0
    for _ in range(job.fit.epochs):
        model.train()
        for x, y in loader:
            schedule.step_update(step)
            loss = loss_fn(model(x.to(where)), y.to(where))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), job.fit.clip)
            optimizer.step()
            step += 1
    model.eval()
    with torch.no_grad():
        right = [(model(x.to(where)).argmax(1).cpu() == y).sum() for x, y in test]
    return float(sum(right)) / len(test.dataset)


def timed(work):
    """What it gives, and its seconds."""
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("cnn", "vit"), default="cnn")
    parser.add_argument("--jobs", type=int, default=40)
    usual = "vmap" if torch.cuda.is_available() else "processes"
    parser.add_argument("--backend", choices=fleet.BACKENDS[1:], default=usual)
    given = parser.parse_args()
    base = ship.base_jobs()[given.family]
    base = replace(base, fit=fleet.tuned_fit(given.family, "learngene"))
    asked = fleet.grid(base, task=range(given.jobs))
    plain(asked[0])  # warm: images and ancestor are read, kernels chosen
    where = ancestry.device_title(train.device())
    print(f"{given.family}, {given.jobs} jobs, {where}, torch {torch.__version__}")
    theirs, theirs_s = timed(lambda: [plain(job) for job in asked])
    _, few_s = timed(lambda: fleet.run(asked[:FEW], backend=given.backend))
    rows, ours_s = timed(lambda: fleet.run(asked, backend=given.backend))
    ours = np.array([row.accuracy for row in rows])
    print(f"plain loop        {given.jobs / theirs_s:6.2f} jobs/s")
    print(
        f"fleet             {given.jobs / ours_s:6.2f} jobs/s with the start of workers or kernels"
    )
    print(f"ratio             {theirs_s / ours_s:6.2f} with the start")
    if given.backend == "processes":  # a stack takes few jobs in no less time than many
        rate = (given.jobs - FEW) / (ours_s - few_s)
        _, alone_s = timed(lambda: fleet.run(asked[:FEW], backend="serial"))
        most = backends.cores() * FEW / alone_s
        print(
            f"ratio             {rate * theirs_s / given.jobs:6.2f} without, at {rate:.2f} jobs/s"
        )
        print(
            f"ceiling           {most * theirs_s / given.jobs:6.2f} if no process hindered another"
        )
    print(f"backend           {given.backend}")
    if torch.cuda.is_available():
        print(f"peak GPU memory   {torch.cuda.max_memory_allocated() / 2**30:6.2f} GiB")
    gap, p = report.paired(ours, theirs), report.equivalent(ours, theirs, 0.03)
    print(
        f"accuracy          {ours.mean():.1%} against {np.mean(theirs):.1%}, difference {gap.points()}"
    )
    print(f"equal within 3 points: p = {p:.2g}")


if __name__ == "__main__":
    main()
