"""Wrong answers to assignment a2_hypergradient: plausible, and each must lose exactly its task."""


def _recursion(
    carry: str, alpha: str = "alpha + sgd.weight_decay * u + by_theta", **swap: str
) -> str:
    """The walk back with one of its lines replaced."""
    point, order = (
        swap.get("point", "point"),
        swap.get("order", "reversed(list(zip(losses, path)))"),
    )
    return f"""
def recursion(losses, objective, theta, lam, sgd):
    velocity, path = torch.zeros_like(theta), []
    for loss in losses:
        path.append(theta)
        point = theta.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(point, lam), point)
        velocity = sgd.momentum * velocity + slope + sgd.weight_decay * theta
        theta = theta - sgd.lr * velocity
    end = theta.clone().requires_grad_()
    (alpha,) = torch.autograd.grad(objective(end), end)
    beta, total = torch.zeros_like(alpha), torch.zeros_like(lam)
    for loss, point in {order}:
        at, weight = {point}.clone().requires_grad_(), lam.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(at, weight), at, create_graph=True)
        u = beta - sgd.lr * alpha
        by_theta, by_lam = torch.autograd.grad((slope * u).sum(), (at, weight), allow_unused=True)
        total = total if by_lam is None else {swap.get("total", "total + by_lam")}
        alpha, beta = {alpha}, {carry}
    return total
"""


def _rollout(kept: str, note: str, graph: str, back: str = "theta, path") -> str:
    """The way forward with some of its lines replaced."""
    return f"""
def rollout(losses, theta, lam, sgd):
    theta, velocity, path = theta.detach().requires_grad_(), torch.zeros_like(theta), []
    for loss in losses:
        {"path.append(theta.detach())" if note == "before" else "pass"}
        at = {"theta.detach().requires_grad_()" if graph == "first-order" else "theta"}
        (gradient,) = torch.autograd.grad(loss(at, lam), at, create_graph={graph != "none"})
        velocity = sgd.momentum * {kept} + gradient + sgd.weight_decay * theta
        theta = theta - sgd.lr * velocity
        {"path.append(theta.detach())" if note == "after" else "pass"}
    return {back}
"""


WRONG = {
    "sgd_step": {
        "the old velocity": (
            """
def sgd_step(theta, velocity, gradient, sgd):
    moved = theta - sgd.lr * velocity
    return moved, sgd.momentum * velocity + gradient + sgd.weight_decay * theta
""",
            "from left to right",
        ),
        "decay beside the velocity": (
            """
def sgd_step(theta, velocity, gradient, sgd):
    velocity = sgd.momentum * velocity + gradient
    return theta - sgd.lr * velocity - sgd.lr * sgd.weight_decay * theta, velocity
""",
            "the velocity after step",
        ),
        "an average of gradients": (
            """
def sgd_step(theta, velocity, gradient, sgd):
    pull = gradient + sgd.weight_decay * theta
    velocity = sgd.momentum * velocity + (1 - sgd.momentum) * pull
    return theta - sgd.lr * velocity, velocity
""",
            "from left to right",
        ),
        "learning rate in the velocity": (
            """
def sgd_step(theta, velocity, gradient, sgd):
    velocity = sgd.momentum * velocity + sgd.lr * (gradient + sgd.weight_decay * theta)
    return theta - velocity, velocity
""",
            "not that of the rule",
        ),
        "in place": (
            """
def sgd_step(theta, velocity, gradient, sgd):
    velocity = sgd.momentum * velocity + gradient + sgd.weight_decay * theta
    theta -= sgd.lr * velocity
    return theta, velocity
""",
            "theta was changed in place",
        ),
    },
    "rollout": {
        "path after the step": (_rollout("velocity", "after", "all"), "the first is the start"),
        "path with the end": (
            _rollout("velocity", "before", "all", "theta, [*path, theta.detach()]"),
            "path holds 5",
        ),
        "velocity forgotten": (
            _rollout("torch.zeros_like(velocity)", "before", "all"),
            "where torch.optim.SGD ends",
        ),
        "no graph of the gradient": (
            _rollout("velocity", "before", "none"),
            "keep that of the gradients",
        ),
        "first-order": (_rollout("velocity", "before", "first-order"), "earlier steps have moved"),
        "end detached": (
            _rollout("velocity", "before", "all", "theta.detach(), path"),
            "lam got lost",
        ),
    },
    "one_step": {
        "J at the start": (
            """
def one_step(loss, objective, theta, lam, lr):
    theta, lam = theta.clone().requires_grad_(), lam.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta, lam), theta, create_graph=True)
    (slope,) = torch.autograd.grad(objective(theta), theta)
    return -lr * torch.autograd.grad((gradient * slope).sum(), lam)[0]
""",
            "wrong point",
        ),
        "sign": (
            """
def one_step(loss, objective, theta, lam, lr):
    theta, lam = theta.clone().requires_grad_(), lam.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta, lam), theta, create_graph=True)
    end = (theta - lr * gradient).detach().requires_grad_()
    (slope,) = torch.autograd.grad(objective(end), end)
    return lr * torch.autograd.grad((gradient * slope).sum(), lam)[0]
""",
            "check the sign",
        ),
        "learning rate forgotten": (
            """
def one_step(loss, objective, theta, lam, lr):
    theta, lam = theta.clone().requires_grad_(), lam.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta, lam), theta, create_graph=True)
    end = (theta - lr * gradient).detach().requires_grad_()
    (slope,) = torch.autograd.grad(objective(end), end)
    return -torch.autograd.grad((gradient * slope).sum(), lam)[0]
""",
            "Expected -0.28",
        ),
        "slope of the loss by lambda": (
            """
def one_step(loss, objective, theta, lam, lr):
    theta, lam = theta.clone().requires_grad_(), lam.clone().requires_grad_()
    return -lr * torch.autograd.grad(loss(theta, lam), lam)[0]
""",
            "Expected -0.28",
        ),
        "right for one dimension": (
            """
def one_step(loss, objective, theta, lam, lr):
    theta, lam = theta.clone().requires_grad_(), lam.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta, lam), theta, create_graph=True)
    end = (theta - lr * gradient).detach().requires_grad_()
    (slope,) = torch.autograd.grad(objective(end), end)
    return -lr * slope.sum() * torch.autograd.grad(gradient.sum(), lam)[0]
""",
            "two-layer net",
        ),
    },
    "recursion": {
        "momentum is not carried": (
            _recursion("torch.zeros_like(beta)"),
            "what does a velocity hand on",
        ),
        "no pull of the weight decay": (
            _recursion("sgd.momentum * u", "alpha + by_theta"),
            "through what else",
        ),
        "first-order": (
            _recursion("sgd.momentum * u", "alpha + sgd.weight_decay * u"),
            "curvature",
        ),
        "the direct way lost": (
            _recursion("sgd.momentum * u", "sgd.weight_decay * u + by_theta"),
            "One matching step",
        ),
        "all slopes at the end": (_recursion("sgd.momentum * u", point="theta"), "which point"),
        "from first to last": (
            _recursion("sgd.momentum * u", order="zip(losses, path)"),
            "One matching step",
        ),
        "last share only": (_recursion("sgd.momentum * u", total="by_lam"), "adds its share"),
        "graph of the whole rollout": (
            """
def recursion(losses, objective, theta, lam, sgd):
    theta, lam = theta.clone().requires_grad_(), lam.clone().requires_grad_()
    velocity = torch.zeros_like(theta)
    for loss in losses:
        (slope,) = torch.autograd.grad(loss(theta, lam), theta, create_graph=True)
        velocity = sgd.momentum * velocity + slope + sgd.weight_decay * theta
        theta = theta - sgd.lr * velocity
    return torch.autograd.grad(objective(theta), lam)[0]
""",
            "detach it first",
        ),
    },
    "finite_difference": {
        "one side": (
            """
def finite_difference(value, lam, h=1e-5):
    moves = h * torch.eye(len(lam), dtype=lam.dtype)
    return torch.stack([(value(lam + m) - value(lam)) / h for m in moves])
""",
            "look to both sides",
        ),
        "divided by h": (
            """
def finite_difference(value, lam, h=1e-5):
    moves = h * torch.eye(len(lam), dtype=lam.dtype)
    return torch.stack([(value(lam + m) - value(lam - m)) / h for m in moves])
""",
            "twice too large",
        ),
        "moved in place": (
            """
def finite_difference(value, lam, h=1e-5):
    slopes = []
    for i in range(len(lam)):
        lam[i] += h
        up = value(lam)
        lam[i] -= 2 * h
        slopes.append((up - value(lam)) / (2 * h))
    return torch.stack(slopes)
""",
            "moved back",
        ),
        "all entries at a time": (
            """
def finite_difference(value, lam, h=1e-5):
    return (value(lam + h) - value(lam - h)) / (2 * h) * torch.ones_like(lam)
""",
            "one entry moved",
        ),
        "one number": (
            """
def finite_difference(value, lam, h=1e-5):
    return (value(lam + h) - value(lam - h)) / (2 * h)
""",
            "One slope for each entry",
        ),
    },
    "dropped_term": {
        "one setting for all": (
            """
def dropped_term(estimator):
    problem, sgd = random_problem(0, 4), SGD(0.2, 0.9, 0.3)
    return "nothing" if near(estimator(problem, sgd), exact(problem, sgd)) else "hessian"
""",
            "this term alone",
        ),
        "no steps between": (
            """
def dropped_term(estimator):
    problem = random_problem(0, 0)
    trials = {"hessian": (0, 0), "momentum": (0.9, 0), "weight decay": (0, 0.3)}
    for name, (momentum, decay) in trials.items():
        sgd = SGD(0.2, momentum, decay)
        if not near(estimator(problem, sgd), exact(problem, sgd)):
            return name
    return "nothing"
""",
            "In which settings",
        ),
        "momentum first": (
            """
def dropped_term(estimator):
    problem = random_problem(0, 4)
    trials = {"momentum": (0.9, 0), "weight decay": (0, 0.3), "hessian": (0, 0)}
    for name, (momentum, decay) in trials.items():
        sgd = SGD(0.2, momentum, decay)
        if not near(estimator(problem, sgd), exact(problem, sgd)):
            return name
    return "nothing"
""",
            "without the hessian term",
        ),
        "too coarse": (
            """
def dropped_term(estimator):
    problem = random_problem(0, 4)
    trials = {"hessian": (0, 0), "momentum": (0.9, 0), "weight decay": (0, 0.3)}
    for name, (momentum, decay) in trials.items():
        sgd = SGD(0.2, momentum, decay)
        if (estimator(problem, sgd) - exact(problem, sgd)).norm() > 1:
            return name
    return "nothing"
""",
            "was taken for one that drops 'nothing'",
        ),
    },
    "how_wrong": {
        "unit is the estimate": (
            """
def how_wrong(estimate, truth):
    cosine = (estimate * truth).sum() / (estimate.norm() * truth.norm())
    return ((estimate - truth).norm() / estimate.norm()).item(), cosine.item()
""",
            "Which length is the unit",
        ),
        "squared": (
            """
def how_wrong(estimate, truth):
    cosine = (estimate * truth).sum() / (estimate.norm() * truth.norm())
    error = (estimate - truth).square().sum() / truth.square().sum()
    return error.item(), cosine.item()
""",
            "is it a length",
        ),
        "difference of the lengths": (
            """
def how_wrong(estimate, truth):
    cosine = (estimate * truth).sum() / (estimate.norm() * truth.norm())
    return ((estimate.norm() - truth.norm()).abs() / truth.norm()).item(), cosine.item()
""",
            "relative error",
        ),
        "scalar product": (
            """
def how_wrong(estimate, truth):
    error = (estimate - truth).norm() / truth.norm()
    return error.item(), (estimate * truth).sum().item()
""",
            "between -1 and 1",
        ),
        "divided by one length": (
            """
def how_wrong(estimate, truth):
    error = (estimate - truth).norm() / truth.norm()
    return error.item(), ((estimate * truth).sum() / truth.square().sum()).item()
""",
            "when a vector gets longer",
        ),
    },
    "meta_step": {
        "ascent": (
            """
def meta_step(z, slope, meta_lr):
    return z + meta_lr * slope * ((z > 0) & (z < 6))
""",
            "descent goes against",
        ),
        "relu6 forgotten": (
            """
def meta_step(z, slope, meta_lr):
    return z - meta_lr * slope
""",
            "flat part",
        ),
        "the ceiling forgotten": (
            """
def meta_step(z, slope, meta_lr):
    return z - meta_lr * slope * (z > 0)
""",
            "flat part",
        ),
        "lambda returned": (
            """
def meta_step(z, slope, meta_lr):
    return (z - meta_lr * slope * ((z > 0) & (z < 6))).clamp(0, 6)
""",
            "flat part",
        ),
        "learning rate forgotten": (
            """
def meta_step(z, slope, meta_lr):
    return z - slope * ((z > 0) & (z < 6))
""",
            "Wrong step",
        ),
        "in place": (
            """
def meta_step(z, slope, meta_lr):
    z -= meta_lr * slope * ((z > 0) & (z < 6))
    return z
""",
            "in place",
        ),
    },
}
