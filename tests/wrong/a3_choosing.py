"""Wrong answers to assignment a3_choosing: plausible, and each must lose exactly its task."""

WRONG = {
    "lambda_slopes": {
        "the functions themselves": (
            """
def lambda_slopes(z):
    return {"relu6": z.clip(0, 6), "softplus": np.log1p(np.exp(z))}
""",
            "relu6 itself",
        ),
        "relu without the ceiling": (
            """
def lambda_slopes(z):
    return {"relu6": (z > 0).astype(float), "softplus": special.expit(z)}
""",
            "does it change when z grows",
        ),
        "softplus is flipped": (
            """
def lambda_slopes(z):
    return {"relu6": ((z > 0) & (z < 6)).astype(float), "softplus": 1 / (1 + np.exp(z))}
""",
            "small step",
        ),
        "alive at the corners": (
            """
def lambda_slopes(z):
    return {"relu6": ((z >= 0) & (z <= 6)).astype(float), "softplus": special.expit(z)}
""",
            "corners",
        ),
        "flattened": (
            """
def lambda_slopes(z):
    relu6 = [float(0 < v < 6) for v in z.ravel()]
    return {"relu6": np.array(relu6), "softplus": special.expit(z)}
""",
            "any shape",
        ),
    },
    "dead_pairs": {
        "only the floor": (
            """
def dead_pairs(z):
    return [int(i) for i in np.flatnonzero((z <= 0).all(axis=0))]
""",
            "flat there too",
        ),
        "one dead image is enough": (
            """
def dead_pairs(z):
    return [int(i) for i in np.flatnonzero(((z <= 0) | (z >= 6)).any(axis=0))]
""",
            "one of the images",
        ),
        "judged by the mean of z": (
            """
def dead_pairs(z):
    mean = z.mean(axis=0)
    return [int(i) for i in np.flatnonzero((mean <= 0) | (mean >= 6))]
""",
            "one of the images",
        ),
        "always on the same side": (
            """
def dead_pairs(z):
    return [int(i) for i in np.flatnonzero((z <= 0).all(axis=0) | (z >= 6).all(axis=0))]
""",
            "same side",
        ),
        "a mask": (
            """
def dead_pairs(z):
    return list(((z <= 0) | (z >= 6)).all(axis=0))
""",
            "positions, not True",
        ),
    },
    "layer_scores": {
        "all meta-iterations": (
            """
def layer_scores(trace, pairs):
    means = trace.mean(axis=1)
    return np.stack([means[:, pairs[:, 0] == m].max(axis=1) for m in np.unique(pairs[:, 0])], 1)
""",
            "early meta-iterations",
        ),
        "only the last one": (
            """
def layer_scores(trace, pairs):
    last = trace[:, -1]
    return np.stack([last[:, pairs[:, 0] == m].max(axis=1) for m in np.unique(pairs[:, 0])], 1)
""",
            "Only the last meta-iteration",
        ),
        "largest before averaging": (
            """
def layer_scores(trace, pairs):
    tail = trace[:, -max(1, round(trace.shape[1] / 4)) :]
    best = [tail[:, :, pairs[:, 0] == m].max(axis=2).mean(axis=1) for m in np.unique(pairs[:, 0])]
    return np.stack(best, axis=1)
""",
            "before averaging",
        ),
        "mean over partners": (
            """
def layer_scores(trace, pairs):
    means = trace[:, -max(1, round(trace.shape[1] / 4)) :].mean(axis=1)
    return np.stack([means[:, pairs[:, 0] == m].mean(axis=1) for m in np.unique(pairs[:, 0])], 1)
""",
            "partners were averaged",
        ),
        "pairs by position": (
            """
def layer_scores(trace, pairs):
    means = trace[:, -max(1, round(trace.shape[1] / 4)) :].mean(axis=1)
    return means.reshape(len(means), pairs[:, 0].max() + 1, -1).max(axis=2)
""",
            "go by `pairs`",
        ),
        "averaged over seeds": (
            """
def layer_scores(trace, pairs):
    means = trace[:, -max(1, round(trace.shape[1] / 4)) :].mean(axis=(0, 1))
    return np.array([means[pairs[:, 0] == m].max() for m in np.unique(pairs[:, 0])])
""",
            "One row for each seed",
        ),
        "a quarter rounded down": (
            """
def layer_scores(trace, pairs):
    means = trace[:, -max(1, trace.shape[1] // 4) :].mean(axis=1)
    return np.stack([means[:, pairs[:, 0] == m].max(axis=1) for m in np.unique(pairs[:, 0])], 1)
""",
            "how many are the last quarter",
        ),
    },
    "concordance": {
        "judges and things swapped": (
            """
def concordance(runs):
    seeds, count = runs.shape
    test = stats.friedmanchisquare(*runs)
    return float(test.statistic / (count * (seeds - 1))), float(test.pvalue)
""",
            "Which are the judges",
        ),
        "off by one in the largest value": (
            """
def concordance(runs):
    seeds, count = runs.shape
    test = stats.friedmanchisquare(*runs.T)
    return float(test.statistic / (seeds * count)), float(test.pvalue)
""",
            "when all agree",
        ),
        "the statistic itself": (
            """
def concordance(runs):
    test = stats.friedmanchisquare(*runs.T)
    return float(test.statistic), float(test.pvalue)
""",
            "above 1",
        ),
        "mean Kendall tau": (
            """
def concordance(runs):
    pairs = [(a, b) for i, a in enumerate(runs) for b in runs[:i]]
    tau = np.mean([stats.kendalltau(a, b).statistic for a, b in pairs])
    return float(tau), float(stats.friedmanchisquare(*runs.T).pvalue)
""",
            "Friedman's statistic",
        ),
    },
    "above_control": {
        "population standard deviation": (
            """
def above_control(runs, control):
    gaps = runs - control[:, None]
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(axis=0) / np.sqrt(len(gaps))
    return [int(i) for i in np.flatnonzero(gaps.mean(axis=0) - half > 0)]
""",
            "Which standard deviation",
        ),
        "1.96 for every number of seeds": (
            """
def above_control(runs, control):
    gaps = runs - control[:, None]
    half = 1.96 * gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
    return [int(i) for i in np.flatnonzero(gaps.mean(axis=0) - half > 0)]
""",
            "1.96 is too short",
        ),
        "larger on average": (
            """
def above_control(runs, control):
    return [int(i) for i in np.flatnonzero(runs.mean(axis=0) > control.mean())]
""",
            "use an interval",
        ),
        "not paired": (
            """
def above_control(runs, control):
    n = len(runs)
    variance = runs.var(axis=0, ddof=1) + control.var(ddof=1)
    half = stats.t.ppf(0.975, 2 * n - 2) * np.sqrt(variance / n)
    return [int(i) for i in np.flatnonzero(runs.mean(axis=0) - control.mean() - half > 0)]
""",
            "pairing",
        ),
        "different in either direction": (
            """
def above_control(runs, control):
    gaps = runs - control[:, None]
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
    return [int(i) for i in np.flatnonzero(np.abs(gaps.mean(axis=0)) - half > 0)]
""",
            "below the control",
        ),
        "an array": (
            """
def above_control(runs, control):
    gaps = runs - control[:, None]
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
    return np.flatnonzero(gaps.mean(axis=0) - half > 0)
""",
            "Return a list",
        ),
        "a mask": (
            """
def above_control(runs, control):
    gaps = runs - control[:, None]
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
    return list(gaps.mean(axis=0) - half > 0)
""",
            "positions, not True",
        ),
    },
    "choose_layers": {
        "stem and head compete": (
            """
def choose_layers(table, count):
    best = sorted(table, key=lambda row: -row.score)[:count]
    return tuple(row.name for row in table if row in best)
""",
            "stem travels anyway",
        ),
        "order of the scores": (
            """
def choose_layers(table, count):
    candidates = [row for row in table if row.role == "block" and not np.isnan(row.score)]
    return tuple(row.name for row in sorted(candidates, key=lambda row: -row.score)[:count])
""",
            "order of the network",
        ),
        "ties go to the later block": (
            """
def choose_layers(table, count):
    candidates = [row for row in table if row.role == "block" and not np.isnan(row.score)]
    best = np.argsort([row.score for row in candidates], kind="stable")[::-1][:count]
    return tuple(candidates[i].name for i in sorted(best))
""",
            "equal scores",
        ),
        "the lowest scores": (
            """
def choose_layers(table, count):
    candidates = [row for row in table if row.role == "block" and not np.isnan(row.score)]
    best = sorted(candidates, key=lambda row: row.score)[:count]
    return tuple(row.name for row in candidates if row in best)
""",
            "lowest scores",
        ),
        "a block without a score": (
            """
def choose_layers(table, count):
    candidates = [row for row in table if row.role == "block"]
    best = np.argsort([-row.score for row in candidates], kind="stable")
    best = sorted(best, key=lambda i: not np.isnan(candidates[i].score))[:count]
    return tuple(candidates[i].name for i in sorted(best))
""",
            "NaN",
        ),
    },
    "choose_by_share": {
        "stops at the first that does not fit": (
            """
def choose_by_share(table, share):
    candidates = [row for row in table if row.role == "block"]
    left, taken = share * sum(row.num_params for row in candidates), set()
    for row in sorted(candidates, key=lambda row: -row.score):
        if row.num_params > left:
            break
        taken.add(row.name)
        left -= row.num_params
    return tuple(row.name for row in candidates if row.name in taken)
""",
            "stops at the first",
        ),
        "just fitting does not count": (
            """
def choose_by_share(table, share):
    candidates = [row for row in table if row.role == "block"]
    left, taken = share * sum(row.num_params for row in candidates), set()
    for row in sorted(candidates, key=lambda row: -row.score):
        if row.num_params < left:
            taken.add(row.name)
            left -= row.num_params
    return tuple(row.name for row in candidates if row.name in taken)
""",
            "exactly what is left",
        ),
        "a share of the whole model": (
            """
def choose_by_share(table, share):
    candidates = [row for row in table if row.role == "block"]
    left, taken = share * sum(row.num_params for row in table), set()
    for row in sorted(candidates, key=lambda row: -row.score):
        if row.num_params <= left:
            taken.add(row.name)
            left -= row.num_params
    return tuple(row.name for row in candidates if row.name in taken)
""",
            "blocks alone",
        ),
        "score for each parameter": (
            """
def choose_by_share(table, share):
    candidates = [row for row in table if row.role == "block"]
    left, taken = share * sum(row.num_params for row in candidates), set()
    for row in sorted(candidates, key=lambda row: -row.score / row.num_params):
        if row.num_params <= left:
            taken.add(row.name)
            left -= row.num_params
    return tuple(row.name for row in candidates if row.name in taken)
""",
            "Go by score",
        ),
        "the order of the scores": (
            """
def choose_by_share(table, share):
    candidates = [row for row in table if row.role == "block"]
    left, taken = share * sum(row.num_params for row in candidates), []
    for row in sorted(candidates, key=lambda row: -row.score):
        if row.num_params <= left:
            taken.append(row.name)
            left -= row.num_params
    return tuple(taken)
""",
            "order of the network",
        ),
        "the stem uses up the budget": (
            """
def choose_by_share(table, share):
    left, taken = share * sum(row.num_params for row in table), set()
    for row in sorted(table, key=lambda row: -row.score):
        if row.num_params <= left:
            taken.add(row.name)
            left -= row.num_params
    return tuple(row.name for row in table if row.name in taken)
""",
            "Stem and head",
        ),
    },
    "rival_agreement": {
        "argsort taken for ranks": (
            """
def rival_agreement(ours, rival):
    both = np.isfinite(ours) & np.isfinite(rival)
    return float(np.corrcoef(np.argsort(ours[both]), np.argsort(rival[both]))[0, 1])
""",
            "argsort",
        ),
        "Pearson's correlation": (
            """
def rival_agreement(ours, rival):
    both = np.isfinite(ours) & np.isfinite(rival)
    return float(stats.pearsonr(ours[both], rival[both]).statistic)
""",
            "Compare ranks",
        ),
        "NaN filled with 0": (
            """
def rival_agreement(ours, rival):
    return float(stats.spearmanr(np.nan_to_num(ours), np.nan_to_num(rival)).statistic)
""",
            "leave NaN out",
        ),
        "NaN left in": (
            """
def rival_agreement(ours, rival):
    return float(stats.spearmanr(ours, rival).statistic)
""",
            "must be left out",
        ),
        "the p-value": (
            """
def rival_agreement(ours, rival):
    both = np.isfinite(ours) & np.isfinite(rival)
    return float(stats.spearmanr(ours[both], rival[both]).pvalue)
""",
            "p-value",
        ),
    },
}
