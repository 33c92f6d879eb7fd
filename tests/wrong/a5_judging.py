"""Wrong answers to assignment a5_judging: plausible, and each must lose exactly its task."""

WRONG = {
    "paired_interval": {
        "population variance": (
            """
def paired_interval(a, b, level=0.95):
    d = a - b
    n = len(d)
    half = stats.t.ppf((1 + level) / 2, n - 1) * d.std() / math.sqrt(n)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "spread of a population",
        ),
        "normal quantile": (
            """
def paired_interval(a, b, level=0.95):
    d = a - b
    n = len(d)
    half = stats.norm.ppf((1 + level) / 2) * d.std(ddof=1) / math.sqrt(n)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "normal distribution",
        ),
        "one-sided quantile": (
            """
def paired_interval(a, b, level=0.95):
    d = a - b
    n = len(d)
    half = stats.t.ppf(level, n - 1) * d.std(ddof=1) / math.sqrt(n)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "5 % on each side",
        ),
        "n degrees of freedom": (
            """
def paired_interval(a, b, level=0.95):
    d = a - b
    n = len(d)
    half = stats.t.ppf((1 + level) / 2, n) * d.std(ddof=1) / math.sqrt(n)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "degrees of freedom",
        ),
        "spread of one task": (
            """
def paired_interval(a, b, level=0.95):
    d = a - b
    n = len(d)
    half = stats.t.ppf((1 + level) / 2, n - 1) * d.std(ddof=1)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "interval for one task",
        ),
        "level ignored": (
            """
def paired_interval(a, b, level=0.95):
    d = a - b
    n = len(d)
    half = stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / math.sqrt(n)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "level 0.9",
        ),
        "unpaired": (
            """
def paired_interval(a, b, level=0.95):
    n = len(a)
    half = stats.t.ppf((1 + level) / 2, 2 * n - 2) * math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
    middle = a.mean() - b.mean()
    return middle, middle - half, middle + half
""",
            "different tasks",
        ),
        "b minus a": (
            """
def paired_interval(a, b, level=0.95):
    d = b - a
    n = len(d)
    half = stats.t.ppf((1 + level) / 2, n - 1) * d.std(ddof=1) / math.sqrt(n)
    return d.mean(), d.mean() - half, d.mean() + half
""",
            "Is it a - b?",
        ),
        "in place": (
            """
def paired_interval(a, b, level=0.95):
    a -= b
    n = len(a)
    half = stats.t.ppf((1 + level) / 2, n - 1) * a.std(ddof=1) / math.sqrt(n)
    return a.mean(), a.mean() - half, a.mean() + half
""",
            "changed its arguments",
        ),
        "the visible answer": (
            """
def paired_interval(a, b, level=0.95):
    return 3.0, 3.0 - 1.9632, 3.0 + 1.9632
""",
            "Wrong mean for other data",
        ),
    },
    "shrink_factor": {
        "upside down": (
            """
def shrink_factor(a, b):
    return math.sqrt((a - b).var(ddof=1) / (a.var(ddof=1) + b.var(ddof=1)))
""",
            "other way round",
        ),
        "variances": (
            """
def shrink_factor(a, b):
    return (a.var(ddof=1) + b.var(ddof=1)) / (a - b).var(ddof=1)
""",
            "ratio of variances",
        ),
        "mixed variances": (
            """
def shrink_factor(a, b):
    return math.sqrt((a.var() + b.var()) / (a - b).var(ddof=1))
""",
            "Two kinds of variance",
        ),
        "never below 1": (
            """
def shrink_factor(a, b):
    return max(1.0, math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / (a - b).var(ddof=1)))
""",
            "below 1",
        ),
        "sorted arms": (
            """
def shrink_factor(a, b):
    return math.sqrt((a.var() + b.var()) / (np.sort(a) - np.sort(b)).var())
""",
            "below 1",
        ),
    },
    "verdict": {
        "p ignored": (
            """
def verdict(low, high, null=0.0, p=None):
    if low > null:
        return "supported"
    return "contradicted" if high < null else "not supported"
""",
            "not clear of chance",
        ),
        "absence of evidence": (
            """
def verdict(low, high, null=0.0, p=None):
    clear = p is None or p < 0.05
    return "supported" if low > null and clear else "contradicted"
""",
            "neither yes nor no",
        ),
        "null of a ratio": (
            """
def verdict(low, high, null=0.0, p=None):
    clear = p is None or p < 0.05
    if low > 0 and clear:
        return "supported"
    return "contradicted" if high < 0 and clear else "not supported"
""",
            "nothing happens at 1",
        ),
        "touching is enough": (
            """
def verdict(low, high, null=0.0, p=None):
    clear = p is None or p < 0.05
    if low >= null and clear:
        return "supported"
    return "contradicted" if high <= null and clear else "not supported"
""",
            "touches 0",
        ),
        "the middle decides": (
            """
def verdict(low, high, null=0.0, p=None):
    clear = p is None or p < 0.05
    if (low + high) / 2 > null and clear:
        return "supported"
    return "contradicted" if (low + high) / 2 < null and clear else "not supported"
""",
            "neither yes nor no",
        ),
        "p guards one side": (
            """
def verdict(low, high, null=0.0, p=None):
    if low > null and (p is None or p < 0.05):
        return "supported"
    return "contradicted" if high < null else "not supported"
""",
            "guards 'contradicted'",
        ),
        "p of zero is missing": (
            """
def verdict(low, high, null=0.0, p=None):
    clear = not p or p < 0.05
    if low > null and (p and clear or p is None):
        return "supported"
    return "contradicted" if high < null and clear else "not supported"
""",
            "small, not missing",
        ),
    },
    "holm": {
        "Bonferroni": (
            """
def holm(p_values):
    return {name: min(1.0, len(p_values) * p) for name, p in p_values.items()}
""",
            "another factor than the smallest",
        ),
        "not monotone": (
            """
def holm(p_values):
    order = sorted(p_values, key=p_values.get)
    return {m: min(1.0, (len(order) - k) * p_values[m]) for k, m in enumerate(order)}
""",
            "smaller than the one before",
        ),
        "not capped": (
            """
def holm(p_values):
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, (len(p_values) - rank) * p_values[name])
        corrected[name] = largest
    return corrected
""",
            "above 1",
        ),
        "off by one": (
            """
def holm(p_values):
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get), start=1):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected
""",
            "smallest of 4 becomes 0.02",
        ),
        "not sorted": (
            """
def holm(p_values):
    corrected, largest = {}, 0.0
    for rank, name in enumerate(p_values):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected
""",
            "smallest of 4 becomes 0.02",
        ),
        "rounded": (
            """
def holm(p_values):
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = round(float(largest), 4)
    return corrected
""",
            "is something rounded",
        ),
        "in place": (
            """
def holm(p_values):
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        p_values[name] = largest
    return p_values
""",
            "changed its argument",
        ),
    },
    "tasks_needed": {
        "normal approximation": (
            """
def tasks_needed(effect, sd, power=0.8):
    wanted = stats.norm.ppf(0.975) + stats.norm.ppf(power)
    return math.ceil((wanted * sd / effect) ** 2)
""",
            "normal approximation",
        ),
        "one-sided interval": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 2
    while stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, math.sqrt(n) * effect / sd) < power:
        n += 1
    return n
""",
            "5 % on each side",
        ),
        "two groups": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 2
    while stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, math.sqrt(n) * effect / (math.sqrt(2) * sd)) < power:
        n += 1
    return n
""",
            "two arms on different tasks",
        ),
        "expected to be significant": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 2
    while math.sqrt(n) * effect / sd < stats.t.ppf(0.975, n - 1):
        n += 1
    return n
""",
            "50 % power",
        ),
        "one too few": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 2
    while stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, math.sqrt(n) * effect / sd) < power:
        n += 1
    return n - 1
""",
            "still below 80 %",
        ),
        "n degrees of freedom": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 2
    while stats.nct.sf(stats.t.ppf(0.975, n), n, math.sqrt(n) * effect / sd) < power:
        n += 1
    return n
""",
            "5 points with an SD of 4",
        ),
        "starts with three tasks": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 3
    while stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, math.sqrt(n) * effect / sd) < power:
        n += 1
    return n
""",
            "two tasks are enough",
        ),
        "power ignored": (
            """
def tasks_needed(effect, sd, power=0.8):
    n = 2
    while stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, math.sqrt(n) * effect / sd) < 0.8:
        n += 1
    return n
""",
            "Do all three enter",
        ),
    },
    "best_epoch_gain": {
        "best of everything": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, epochs))
    return 100 * right.max() / images - accuracy
""",
            "within each draw",
        ),
        "wrong axis": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, epochs))
    return 100 * right.max(axis=0).mean() / images - accuracy
""",
            "within each draw",
        ),
        "best of the means": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, epochs))
    return 100 * right.mean(axis=0).max() / images - accuracy
""",
            "then average",
        ),
        "last epoch": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, epochs))
    return 100 * right[:, -1].mean() / images - accuracy
""",
            "then average",
        ),
        "one standard error": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, epochs))
    return (100 * right / images).std()
""",
            "one standard error",
        ),
        "a share of 1": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, epochs))
    return right.max(axis=1).mean() / images - accuracy / 100
""",
            "share of 1",
        ),
        "20 epochs always": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(draws, 20))
    return 100 * right.max(axis=1).mean() / images - accuracy
""",
            "With one epoch nothing is chosen",
        ),
        "200 images always": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(200, accuracy / 100, size=(draws, epochs))
    return 100 * right.max(axis=1).mean() / 200 - accuracy
""",
            "Do all three enter",
        ),
        "a generator of its own": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = np.random.default_rng(0).binomial(images, accuracy / 100, size=(draws, epochs))
    return 100 * right.max(axis=1).mean() / images - accuracy
""",
            "use the generator that you are given",
        ),
        "no simulation": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    below = stats.binom.cdf(np.arange(images), images, accuracy / 100)
    return 100 * (1 - below**epochs).sum() / images - accuracy
""",
            "use the generator that you are given",
        ),
        "a generator without a seed": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = np.random.default_rng().binomial(images, accuracy / 100, size=(draws, epochs))
    return 100 * right.max(axis=1).mean() / images - accuracy
""",
            "The same seed gave different results",
        ),
        "4000 draws always": (
            """
def best_epoch_gain(accuracy, images, epochs, rng, draws=4000):
    right = rng.binomial(images, accuracy / 100, size=(4000, epochs))
    return 100 * right.max(axis=1).mean() / images - accuracy
""",
            "does `draws` enter",
        ),
    },
    "steps_until": {
        "censored runs left out": (
            """
def steps_until(steps, curves, threshold):
    there = curves >= threshold
    reached = there.any(axis=1)
    return steps[there.argmax(axis=1)][reached].mean(), reached.mean()
""",
            "was left out",
        ),
        "argmax of nothing": (
            """
def steps_until(steps, curves, threshold):
    there = curves >= threshold
    return steps[there.argmax(axis=1)].mean(), there.any(axis=1).mean()
""",
            "argmax of all False",
        ),
        "above instead of at least": (
            """
def steps_until(steps, curves, threshold):
    there = curves > threshold
    reached = there.any(axis=1)
    return np.where(reached, steps[there.argmax(axis=1)], steps[-1]).mean(), reached.mean()
""",
            "includes 80 itself",
        ),
        "never is infinite": (
            """
def steps_until(steps, curves, threshold):
    there = curves >= threshold
    reached = there.any(axis=1)
    return np.where(reached, steps[there.argmax(axis=1)], np.inf).mean(), reached.mean()
""",
            "not as infinite",
        ),
        "last time there": (
            """
def steps_until(steps, curves, threshold):
    there = curves >= threshold
    reached = there.any(axis=1)
    last = steps[::-1][there[:, ::-1].argmax(axis=1)]
    return np.where(reached, last, steps[-1]).mean(), reached.mean()
""",
            "first there at step 2",
        ),
        "positions": (
            """
def steps_until(steps, curves, threshold):
    there = curves >= threshold
    reached = there.any(axis=1)
    return np.where(reached, there.argmax(axis=1), len(steps) - 1).mean(), reached.mean()
""",
            "positions",
        ),
        "share of the last step": (
            """
def steps_until(steps, curves, threshold):
    there = curves >= threshold
    reached = there.any(axis=1)
    steps_taken = np.where(reached, steps[there.argmax(axis=1)], steps[-1])
    return steps_taken.mean(), there[:, -1].mean()
""",
            "Three of four runs get there",
        ),
    },
    "equivalence_p": {
        "p of a difference": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std(ddof=1) / math.sqrt(len(d))
    return 2 * stats.t.sf(abs(d.mean()) / error, len(d) - 1)
""",
            "p of a difference",
        ),
        "one minus p": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std(ddof=1) / math.sqrt(len(d))
    return 1 - 2 * stats.t.sf(abs(d.mean()) / error, len(d) - 1)
""",
            "no evidence of equality",
        ),
        "the better of both": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std(ddof=1) / math.sqrt(len(d))
    above = stats.t.sf((d.mean() + margin) / error, len(d) - 1)
    below = stats.t.cdf((d.mean() - margin) / error, len(d) - 1)
    return min(above, below)
""",
            "better of the two",
        ),
        "the wrong tails": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std(ddof=1) / math.sqrt(len(d))
    above = stats.t.sf((d.mean() + margin) / error, len(d) - 1)
    below = stats.t.cdf((d.mean() - margin) / error, len(d) - 1)
    return max(1 - above, 1 - below)
""",
            "lies well within",
        ),
        "both added": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std(ddof=1) / math.sqrt(len(d))
    above = stats.t.sf((d.mean() + margin) / error, len(d) - 1)
    below = stats.t.cdf((d.mean() - margin) / error, len(d) - 1)
    return above + below
""",
            "`noisy`",
        ),
        "population variance": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std() / math.sqrt(len(d))
    above = stats.t.sf((d.mean() + margin) / error, len(d) - 1)
    below = stats.t.cdf((d.mean() - margin) / error, len(d) - 1)
    return max(above, below)
""",
            "Check error",
        ),
        "one side only": (
            """
def equivalence_p(a, b, margin):
    d = a - b
    error = d.std(ddof=1) / math.sqrt(len(d))
    above = stats.t.sf((d.mean() + margin) / error, len(d) - 1)
    below = stats.t.cdf((d.mean() - margin) / error, len(d) - 1)
    return below
""",
            "far outside the margin",
        ),
    },
}
