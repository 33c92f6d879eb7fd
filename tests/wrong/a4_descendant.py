"""Wrong answers to assignment a4_descendant: plausible, and each must lose exactly its task."""

WRONG = {
    "partition_faults": {
        "parameters only": (
            """
def partition_faults(model, layers):
    keys = [key for layer in layers for key in layer.tensors]
    missing = sorted({key for key, _ in model.named_parameters()} - set(keys))
    return missing, sorted({key for key in keys if keys.count(key) > 1})
""",
            "not every tensor is a parameter",
        ),
        "a set hides what is double": (
            """
def partition_faults(model, layers):
    keys = {key for layer in layers for key in layer.tensors}
    missing = sorted(set(model.state_dict()) - keys)
    return missing, sorted(key for key in keys if list(keys).count(key) > 1)
""",
            "a set forgets",
        ),
        "named as often as it came": (
            """
def partition_faults(model, layers):
    keys = [key for layer in layers for key in layer.tensors]
    missing = sorted(set(model.state_dict()) - set(keys))
    return missing, sorted(key for key in keys if keys.count(key) > 1)
""",
            "named once",
        ),
        "every second time, so three times is none": (
            """
def partition_faults(model, layers):
    seen, doubled = set(), set()
    for layer in layers:
        doubled ^= seen & set(layer.tensors)
        seen |= set(layer.tensors)
    return sorted(set(model.state_dict()) - seen), sorted(doubled)
""",
            "given three times",
        ),
    },
    "take_out": {
        "detached, not copied": (
            """
def take_out(model, layers, names):
    state = model.state_dict()
    kept = [layer for layer in layers if layer.role == "stem" or layer.name in names]
    return {key: state[key].detach() for layer in kept for key in layer.tensors}
""",
            "share memory",
        ),
        "the head comes along": (
            """
def take_out(model, layers, names):
    state = model.state_dict()
    kept = [layer for layer in layers if layer.role != "block" or layer.name in names]
    return {key: state[key].clone() for layer in kept for key in layer.tensors}
""",
            "head",
        ),
        "parameters only": (
            """
def take_out(model, layers, names):
    own = dict(model.named_parameters())
    kept = [layer for layer in layers if layer.role == "stem" or layer.name in names]
    return {k: own[k].detach().clone() for layer in kept for k in layer.tensors if k in own}
""",
            "running statistics",
        ),
        "no stem": (
            """
def take_out(model, layers, names):
    state = model.state_dict()
    kept = [layer for layer in layers if layer.name in names]
    return {key: state[key].clone() for layer in kept for key in layer.tensors}
""",
            "stem travels",
        ),
        "names taken for prefixes": (
            """
def take_out(model, layers, names):
    prefixes = tuple(f"{name}." for name in ["features.0", "features.1", *names])
    state = model.state_dict()
    return {key: value.clone() for key, value in state.items() if key.startswith(prefixes)}
""",
            "running statistics",
        ),
    },
    "put_in": {
        "edits the fresh state": (
            """
def put_in(fresh, tensors, pairs):
    for slot, source in pairs:
        for there, here in zip(slot.tensors, source.tensors):
            fresh[there].copy_(tensors[here])
    return fresh
""",
            "in place",
        ),
        "a shallow copy, edited in place": (
            """
def put_in(fresh, tensors, pairs):
    state = dict(fresh)
    for slot, source in pairs:
        for there, here in zip(slot.tensors, source.tensors):
            state[there].copy_(tensors[here])
    return state
""",
            "in place",
        ),
        "names do not change": (
            """
def put_in(fresh, tensors, pairs):
    state = {key: value.clone() for key, value in fresh.items()}
    for slot, source in pairs:
        for here in source.tensors:
            state[here] = tensors[here].clone()
    return state
""",
            "names change",
        ),
        "by name where there is one": (
            """
def put_in(fresh, tensors, pairs):
    state = {key: value.clone() for key, value in fresh.items()}
    for key in state:
        if key in tensors and tensors[key].shape == state[key].shape:
            state[key] = tensors[key].clone()
    return state
""",
            "by place",
        ),
        "shares memory with the learngene": (
            """
def put_in(fresh, tensors, pairs):
    state = {key: value.clone() for key, value in fresh.items()}
    for slot, source in pairs:
        state |= {t: tensors[h] for t, h in zip(slot.tensors, source.tensors)}
    return state
""",
            "changed the learngene",
        ),
        "weights and biases only": (
            """
def put_in(fresh, tensors, pairs):
    state = {key: value.clone() for key, value in fresh.items()}
    for slot, source in pairs:
        for there, here in zip(slot.tensors, source.tensors):
            if there.endswith(("weight", "bias")):
                state[there] = tensors[here].clone()
    return state
""",
            "BatchNorm",
        ),
    },
    "proof": {
        "goes by name": (
            """
def proof(heir, ancestor_state):
    telling = {key: value for key, value in heir.items() if value.unique().numel() > 1}
    return {key: key if key in ancestor_state else None for key in telling}
""",
            "another name",
        ),
        "nearly equal is enough": (
            """
def proof(heir, ancestor_state):
    found = {}
    for key, value in heir.items():
        if value.unique().numel() > 1:
            close = [
                k
                for k, v in ancestor_state.items()
                if v.shape == value.shape and torch.allclose(v.float(), value.float())
            ]
            found[key] = close[0] if close else None
    return found
""",
            "last bit",
        ),
        "bytes without the shape": (
            """
def proof(heir, ancestor_state):
    known = {}
    for key, value in ancestor_state.items():
        known.setdefault(hashlib.sha256(value.numpy().tobytes()).hexdigest(), key)
    return {
        key: known.get(hashlib.sha256(value.numpy().tobytes()).hexdigest())
        for key, value in heir.items()
        if value.unique().numel() > 1
    }
""",
            "another shape",
        ),
        "constants prove something": (
            """
def proof(heir, ancestor_state):
    found = {}
    for key, value in heir.items():
        same = [k for k, v in ancestor_state.items() if torch.equal(v, value)]
        found[key] = same[0] if same else None
    return found
""",
            "proves nothing",
        ),
        "a checksum of sums": (
            """
def proof(heir, ancestor_state):
    found = {}
    for key, value in heir.items():
        if value.unique().numel() > 1:
            same = [
                k
                for k, v in ancestor_state.items()
                if v.shape == value.shape and float(v.sum()) == float(value.sum())
            ]
            found[key] = same[0] if same else None
    return found
""",
            "nor a sum",
        ),
        "the last of equal sources": (
            """
def proof(heir, ancestor_state):
    found = {}
    for key, value in heir.items():
        if value.unique().numel() > 1:
            found[key] = None
            for k, v in ancestor_state.items():
                if v.dtype == value.dtype and torch.equal(v, value):
                    found[key] = k
    return found
""",
            "the first is named",
        ),
    },
    "seed_roles": {
        "other seeds only": (
            """
def seed_roles(build):
    a, b = build(0), build(1)
    return {key: "fixed" if torch.equal(a[key], b[key]) else "seeded" for key in a}
""",
            "one seed twice",
        ),
        "the same seed only": (
            """
def seed_roles(build):
    a, b = build(0), build(0)
    return {key: "fixed" if torch.equal(a[key], b[key]) else "irreproducible" for key in a}
""",
            "another seed",
        ),
        "one seed twice, the other once": (
            """
def seed_roles(build):
    a, b, c = build(0), build(0), build(1)
    roles = {}
    for key in a:
        role = "fixed" if torch.equal(a[key], c[key]) else "seeded"
        roles[key] = role if torch.equal(a[key], b[key]) else "irreproducible"
    return roles
""",
            "one of the seeds",
        ),
        "compares objects": (
            """
def seed_roles(build):
    a, b, c = build(0), build(0), build(1)
    roles = {}
    for key in a:
        role = "fixed" if a[key] is c[key] else "seeded"
        roles[key] = role if torch.equal(a[key], b[key]) else "irreproducible"
    return roles
""",
            "compare values",
        ),
    },
    "parameter_share": {
        "buffers count": (
            """
def parameter_share(heir):
    return heir.inherited_share
""",
            "running statistics",
        ),
        "tensors instead of entries": (
            """
def parameter_share(heir):
    return sum(o.source is not None for o in heir.provenance) / len(heir.provenance)
""",
            "count their entries",
        ),
        "layers instead of entries": (
            """
def parameter_share(heir):
    layers = {o.layer: o.source for o in heir.provenance}
    return sum(source is not None for source in layers.values()) / len(layers)
""",
            "differ in size",
        ),
        "the head left out": (
            """
def parameter_share(heir):
    sizes = {k: p.numel() for k, p in heir.model.named_parameters() if not k.startswith("head")}
    return sum(sizes.get(o.tensor, 0) for o in heir.provenance if o.source) / sum(sizes.values())
""",
            "head has parameters",
        ),
        "the fresh share": (
            """
def parameter_share(heir):
    sizes = {key: p.numel() for key, p in heir.model.named_parameters()}
    fresh = sum(sizes.get(o.tensor, 0) for o in heir.provenance if not o.source)
    return fresh / sum(sizes.values())
""",
            "wrong way round",
        ),
        "buffers only below the line": (
            """
def parameter_share(heir):
    sizes = {key: p.numel() for key, p in heir.model.named_parameters()}
    inherited = sum(sizes.get(o.tensor, 0) for o in heir.provenance if o.source)
    return inherited / sum(o.numel for o in heir.provenance)
""",
            "Above the line",
        ),
    },
    "lost_buffers": {
        "parameters as well": (
            """
def lost_buffers(model, tensors, pairs):
    state = model.state_dict()
    matched = [match for slot, source in pairs for match in zip(slot.tensors, source.tensors)]
    return sorted(t for t, h in matched if not torch.equal(state[t], tensors[h]))
""",
            "is a parameter",
        ),
        "nearly equal is enough": (
            """
def lost_buffers(model, tensors, pairs):
    own = dict(model.named_buffers())
    matched = [match for slot, source in pairs for match in zip(slot.tensors, source.tensors)]
    return sorted(
        t
        for t, h in matched
        if t in own and not torch.allclose(own[t].float(), tensors[h].float(), atol=1e-3)
    )
""",
            "off by a little",
        ),
        "matched by name": (
            """
def lost_buffers(model, tensors, pairs):
    own = dict(model.named_buffers())
    keys = [key for slot, _ in pairs for key in slot.tensors if key in own]
    return sorted(k for k in keys if k not in tensors or not torch.equal(own[k], tensors[k]))
""",
            "Nothing was lost",
        ),
        "only running means and variances": (
            """
def lost_buffers(model, tensors, pairs):
    own = dict(model.named_buffers())
    matched = [match for slot, source in pairs for match in zip(slot.tensors, source.tensors)]
    return sorted(
        t for t, h in matched if "running" in t and not torch.equal(own[t], tensors[h])
    )
""",
            "counter",
        ),
    },
    "outputs_from_file": {
        "training mode": (
            """
def outputs_from_file(path, images, seed):
    made = inherit.inherit(Learngene.load(path), num_classes=5, stages=(1, 1, 1, 1), seed=seed)
    with torch.no_grad():
        return made.model.train()(made.normalize(images))
""",
            "training mode",
        ),
        "the seed is forgotten": (
            """
def outputs_from_file(path, images, seed):
    made = inherit.inherit(Learngene.load(path), num_classes=5, stages=(1, 1, 1, 1))
    with torch.no_grad():
        return made.model.eval()(made.normalize(images))
""",
            "seed must reach",
        ),
        "not normalised": (
            """
def outputs_from_file(path, images, seed):
    made = inherit.inherit(Learngene.load(path), num_classes=5, stages=(1, 1, 1, 1), seed=seed)
    with torch.no_grad():
        return made.model.eval()(images.float() / 255)
""",
            "Normalised",
        ),
        "unpickles what is no learngene": (
            """
def outputs_from_file(path, images, seed):
    try:
        gene = Learngene.load(path)
    except errors.UserError:
        gene = torch.load(path, weights_only=False)
    made = inherit.inherit(gene, num_classes=5, stages=(1, 1, 1, 1), seed=seed)
    with torch.no_grad():
        return made.model.eval()(made.normalize(images))
""",
            "was unpickled",
        ),
        "with a gradient": (
            """
def outputs_from_file(path, images, seed):
    made = inherit.inherit(Learngene.load(path), num_classes=5, stages=(1, 1, 1, 1), seed=seed)
    return made.model.eval()(made.normalize(images))
""",
            "no_grad",
        ),
    },
}
