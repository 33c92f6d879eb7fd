"""Wrong answers to assignment a1_splits: plausible, and each must lose exactly its task."""

WRONG = {
    "deal_roles": {
        "off by one": (
            """
def deal_roles(classes, sizes, seed):
    mixed, roles, start = np.random.default_rng(seed).permutation(classes), {}, 0
    for role, size in sizes.items():
        roles[role] = tuple(mixed[start : start + size - 1].tolist())
        start += size
    return roles
""",
            "where do roles end",
        ),
        "with replacement": (
            """
def deal_roles(classes, sizes, seed):
    rng = np.random.default_rng(seed)
    return {role: tuple(rng.choice(classes, n, replace=False).tolist()) for role, n in sizes.items()}
""",
            "had a role already",
        ),
        "positions for ids": (
            """
def deal_roles(classes, sizes, seed):
    mixed = np.random.default_rng(seed).permutation(len(classes))
    parts = np.split(mixed, np.cumsum(list(sizes.values()))[:-1])
    return {role: tuple(part.tolist()) for role, part in zip(sizes, parts)}
""",
            "positions",
        ),
        "no seed": (
            """
def deal_roles(classes, sizes, seed):
    mixed = np.random.default_rng().permutation(classes)
    parts = np.split(mixed, np.cumsum(list(sizes.values()))[:-1])
    return {role: tuple(part.tolist()) for role, part in zip(sizes, parts)}
""",
            "two different deals",
        ),
        "mixed within the roles": (
            """
def deal_roles(classes, sizes, seed):
    rng = np.random.default_rng(seed)
    parts = np.split(np.asarray(classes), np.cumsum(list(sizes.values()))[:-1])
    return {role: tuple(rng.permutation(part).tolist()) for role, part in zip(sizes, parts)}
""",
            "the seed must decide",
        ),
        "a slice of an array for a copy": (
            """
def deal_roles(classes, sizes, seed):
    mixed = classes[:]
    np.random.default_rng(seed).shuffle(mixed)
    parts = np.split(np.asarray(mixed), np.cumsum(list(sizes.values()))[:-1])
    return {role: tuple(part.tolist()) for role, part in zip(sizes, parts)}
""",
            "was changed",
        ),
        "shuffled in place": (
            """
def deal_roles(classes, sizes, seed):
    np.random.default_rng(seed).shuffle(classes)
    parts = np.split(np.asarray(classes), np.cumsum(list(sizes.values()))[:-1])
    return {role: tuple(part.tolist()) for role, part in zip(sizes, parts)}
""",
            "was changed",
        ),
        "the shown sizes only": (
            """
def deal_roles(classes, sizes, seed):
    mixed = np.random.default_rng(seed).permutation(classes).tolist()
    base, open_world, novel = mixed[:64], mixed[64:80], mixed[80:]
    return {"base": tuple(base), "open_world": tuple(open_world), "novel": tuple(novel)}
""",
            "should get",
        ),
    },
    "leaked_classes": {
        "base against novel only": (
            """
def leaked_classes(roles):
    return sorted(set(roles["base"]) & set(roles["novel"]))
""",
            "look at every two roles",
        ),
        "in all roles": (
            """
def leaked_classes(roles):
    return sorted(set.intersection(*map(set, roles.values())))
""",
            "look at every two roles",
        ),
        "listed twice in one role": (
            """
def leaked_classes(roles):
    every = [c for classes in roles.values() for c in classes]
    return sorted({c for c in every if every.count(c) > 1})
""",
            "untidy",
        ),
        "once for every two roles": (
            """
def leaked_classes(roles):
    return sorted(c for a, b in combinations(roles.values(), 2) for c in set(a) & set(b))
""",
            "list it once",
        ),
        "neighbouring roles": (
            """
def leaked_classes(roles):
    parts = [set(classes) for classes in roles.values()]
    return sorted(set().union(*(a & b for a, b in zip(parts, parts[1:]))))
""",
            "look at every two roles",
        ),
    },
    "draw_task": {
        "shots from all images": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(classes)[:n_way]
    shots = [rng.permutation(np.flatnonzero(labels == c))[:k_shot] for c in chosen]
    tests = [rng.permutation(np.flatnonzero((labels == c) & held_out))[:n_test] for c in chosen]
    return tuple(chosen.tolist()), np.stack(shots), np.stack(tests)
""",
            "belongs to the test",
        ),
        "tests from the training images": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(classes)[:n_way]
    rows = [rng.permutation(np.flatnonzero((labels == c) & ~held_out)) for c in chosen]
    shots = np.stack([r[:k_shot] for r in rows])
    return tuple(chosen.tolist()), shots, np.stack([r[k_shot : k_shot + n_test] for r in rows])
""",
            "could know it from training",
        ),
        "with replacement": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(classes)[:n_way]
    free = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    held = [np.flatnonzero((labels == c) & held_out) for c in chosen]
    shots = np.stack([rng.choice(rows, k_shot) for rows in free])
    tests = np.stack([rng.permutation(rows)[:n_test] for rows in held])
    return tuple(chosen.tolist()), shots, tests
""",
            "drawn twice",
        ),
        "a class twice": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(classes, n_way)
    free = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    held = [np.flatnonzero((labels == c) & held_out) for c in chosen]
    shots = np.stack([rng.permutation(rows)[:k_shot] for rows in free])
    tests = np.stack([rng.permutation(rows)[:n_test] for rows in held])
    return tuple(chosen.tolist()), shots, tests
""",
            "different classes",
        ),
        "any class": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.unique(labels))[:n_way]
    free = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    held = [np.flatnonzero((labels == c) & held_out) for c in chosen]
    shots = np.stack([rng.permutation(rows)[:k_shot] for rows in free])
    tests = np.stack([rng.permutation(rows)[:n_test] for rows in held])
    return tuple(chosen.tolist()), shots, tests
""",
            "not among `classes`",
        ),
        "images in the order of the file": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(classes)[:n_way]
    rows = rng.permuted(24 * chosen[:, None] + np.arange(24), axis=1)
    free, held = (rows[~held_out[rows]].reshape(n_way, -1), rows[held_out[rows]].reshape(n_way, -1))
    return tuple(chosen.tolist()), free[:, :k_shot], held[:, :n_test]
""",
            "in whatever order",
        ),
        "the first images of each class": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    chosen = np.random.default_rng(seed).permutation(classes)[:n_way]
    shots = [np.flatnonzero((labels == c) & ~held_out)[:k_shot] for c in chosen]
    tests = [np.flatnonzero((labels == c) & held_out)[:n_test] for c in chosen]
    return tuple(chosen.tolist()), np.stack(shots), np.stack(tests)
""",
            "must draw the images too",
        ),
        "the first test images of each class": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(classes)[:n_way]
    free = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    tests = [np.flatnonzero((labels == c) & held_out)[:n_test] for c in chosen]
    shots = np.stack([rng.permutation(rows)[:k_shot] for rows in free])
    return tuple(chosen.tolist()), shots, np.stack(tests)
""",
            "tests: nine seeds",
        ),
        "test images without the seed": (
            """
def draw_task(labels, held_out, classes, n_way, k_shot, n_test, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(classes)[:n_way]
    free = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    held = [np.flatnonzero((labels == c) & held_out) for c in chosen]
    shots = np.stack([rng.permutation(rows)[:k_shot] for rows in free])
    tests = np.stack([np.random.permutation(rows)[:n_test] for rows in held])
    return tuple(chosen.tolist()), shots, tests
""",
            "other test images",
        ),
    },
    "nested_shots": {
        "k in the seed": (
            """
def nested_shots(labels, held_out, chosen, k_shot, seed):
    rng = np.random.default_rng([seed, k_shot])
    pools = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    return np.stack([rng.permutation(pool)[:k_shot] for pool in pools])
""",
            "are not among the",
        ),
        "a choice of k": (
            """
def nested_shots(labels, held_out, chosen, k_shot, seed):
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    return np.stack([rng.choice(pool, k_shot, replace=False) for pool in pools])
""",
            "are not among the",
        ),
        "the first ones": (
            """
def nested_shots(labels, held_out, chosen, k_shot, seed):
    pools = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    return np.stack([pool[:k_shot] for pool in pools])
""",
            "draw them by the seed",
        ),
        "held-out images too": (
            """
def nested_shots(labels, held_out, chosen, k_shot, seed):
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero(labels == c) for c in chosen]
    return np.stack([rng.permutation(pool)[:k_shot] for pool in pools])
""",
            "held-out image",
        ),
        "nested, with replacement": (
            """
def nested_shots(labels, held_out, chosen, k_shot, seed):
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    return np.stack([rng.choice(pool, 100)[:k_shot] for pool in pools])
""",
            "drawn twice",
        ),
        "off by one": (
            """
def nested_shots(labels, held_out, chosen, k_shot, seed):
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero((labels == c) & ~held_out) for c in chosen]
    return np.stack([rng.permutation(pool)[: k_shot - 1] for pool in pools])
""",
            "the shape is",
        ),
    },
    "task_key": {
        "text of an array": (
            """
def task_key(name, chosen, shots, tests):
    text = f"{name} {tuple(map(int, chosen))} {np.asarray(shots)} {np.asarray(tests)}"
    return hashlib.sha256(text.encode()).hexdigest()
""",
            "one of 2,000 rows",
        ),
        "order of the classes lost": (
            """
def task_key(name, chosen, shots, tests):
    parts = [sorted(np.asarray(chosen).tolist()), np.asarray(shots).tolist(), np.asarray(tests).tolist()]
    return hashlib.sha256(json.dumps([name, *parts]).encode()).hexdigest()
""",
            "order of the classes",
        ),
        "training images only": (
            """
def task_key(name, chosen, shots, tests):
    parts = [np.asarray(part).tolist() for part in (chosen, shots)]
    return hashlib.sha256(json.dumps([name, *parts]).encode()).hexdigest()
""",
            "one test image",
        ),
        "digits without a gap": (
            """
def task_key(name, chosen, shots, tests):
    rows = [np.ravel(part) for part in (chosen, shots, tests)]
    text = name + "/".join("".join(map(str, r.tolist())) for r in rows)
    return hashlib.sha256(text.encode()).hexdigest()
""",
            "1, 23 became 12, 3",
        ),
        "bytes of the array": (
            """
def task_key(name, chosen, shots, tests):
    digest = hashlib.sha256(name.encode())
    for part in (chosen, shots, tests):
        digest.update(np.asarray(part).tobytes())
    return digest.hexdigest()
""",
            "has two keys",
        ),
        "shots and tests in one list": (
            """
def task_key(name, chosen, shots, tests):
    rows = np.hstack([shots, tests]).tolist()
    parts = [name, np.asarray(chosen).tolist(), rows]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
""",
            "became a training image",
        ),
        "a short key": (
            """
def task_key(name, chosen, shots, tests):
    parts = [np.asarray(part).tolist() for part in (chosen, shots, tests)]
    return hashlib.sha256(json.dumps([name, *parts]).encode()).hexdigest()[:16]
""",
            "64 hexadecimal digits",
        ),
    },
    "overlap_rate": {
        "neighbours only": (
            """
def overlap_rate(tasks):
    return float(np.mean([bool(set(a) & set(b)) for a, b in zip(tasks, tasks[1:])]))
""",
            "only with its neighbour",
        ),
        "a task with itself": (
            """
def overlap_rate(tasks):
    return float(np.mean([bool(set(a) & set(b)) for a in tasks for b in tasks]))
""",
            "compared with itself",
        ),
        "classes counted": (
            """
def overlap_rate(tasks):
    return float(np.mean([len(set(a) & set(b)) for a, b in combinations(tasks, 2)]))
""",
            "shared classes counted",
        ),
        "share of the tasks": (
            """
def overlap_rate(tasks):
    return sum(bool(set(a) & set(b)) for a, b in combinations(tasks, 2)) / len(tasks)
""",
            "six pairs",
        ),
    },
    "training_statistics": {
        "held-out images too": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[np.isin(labels, classes)] / 255
    return pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
""",
            "held-out images change",
        ),
        "all classes": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[~held_out] / 255
    return pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
""",
            "other classes change",
        ),
        "bytes": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[np.isin(labels, classes) & ~held_out]
    return pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
""",
            "which unit",
        ),
        "average over images": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[np.isin(labels, classes) & ~held_out] / 255
    return pixels.mean((0, 2, 3)), pixels.std((2, 3)).mean(0)
""",
            "not an average",
        ),
        "one number for all channels": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[np.isin(labels, classes) & ~held_out] / 255
    return pixels.mean(), pixels.std()
""",
            "one a channel",
        ),
        "variance": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[np.isin(labels, classes) & ~held_out] / 255
    return pixels.mean((0, 2, 3)), pixels.var((0, 2, 3))
""",
            "not a variance",
        ),
        "sample standard deviation": (
            """
def training_statistics(images, labels, held_out, classes):
    pixels = images[np.isin(labels, classes) & ~held_out] / 255
    return pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), ddof=1)
""",
            "not that of a sample",
        ),
    },
}
