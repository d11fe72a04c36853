"""Training of the large and of the compact model on an accelerator that holds all the speech.

The same program runs on TensorFlow and on JAX (``KERAS_BACKEND``): the step is a pure function of
the state, and only the taking of its gradient differs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.frontend import FrontEndConfig
from train.config import RunConfig, from_dict
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import load_parts, save_parts
from train.waveforms.draws import Drawer, development_windows, macro_accuracy
from train.waveforms.large import Large, large_front_end
from train.waveforms.sound import (
    augmented,
    eq_basis,
    log_mel,
    masked,
    room_spectra,
    samples_of,
    stretch,
    transform_size,
)

JAX = keras.backend.backend() == "jax"
BETA_1, BETA_2 = 0.9, 0.98  # of AdamW
CLIP_NORM = 5.0  # of the gradient
HELPER_STEPS, HELPER_FACTOR = 60, 4.0  # of a run that starts from weights
LEARNERS, HELPERS = 0, 1  # places of their shares of the learning rate


def filterbank(config: FrontEndConfig) -> np.ndarray:
    """Mel filters, shape (bins, mels); the same as `train.filterbank`, without librosa."""

    # Slaney's scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998).
    def to_mel(hz: Any) -> Any:
        hz = np.asarray(hz, np.float64)
        return np.where(
            hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1) / 1000) / (np.log(6.4) / 27)
        )

    def to_hz(mel: Any) -> Any:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    edges = to_hz(np.linspace(to_mel(config.low_hz), to_mel(config.high_hz), config.mels + 2))
    hz = np.fft.rfftfreq(config.fft_samples, 1 / config.sample_rate_hz)
    rise = (hz[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(filters.T, np.float32)


class Stepper:
    """A pure training step: state and draw in, state and figures out.

    AdamW (Loshchilov and Hutter 2019) is written out, as Keras' own is no pure function on every
    backend.

    Parameters
    ----------
    models : list of keras.Model or keras.Layer
        What learns.
    loss : callable
        ``loss(outs, draw, constants) -> (loss, figures)`` where ``outs(i, *args)`` calls the i-th
        model in training.
    rates : callable
        From a variable's path to its peak learning rate.
    weight_decay : float
        Of matrices.
    decay : float
        Of the average of the weights.
    """

    def __init__(
        self,
        models: list[Any],
        loss: Callable[..., Any],
        rates: Callable[[str], float],
        weight_decay: float,
        decay: float,
    ) -> None:
        self.models, self.loss, self.decay = models, loss, decay
        self.variables = [v for m in models for v in m.trainable_variables]
        self.counts = [len(m.trainable_variables) for m in models]
        self.rest = [len(m.non_trainable_variables) for m in models]
        self.rates = [rates(v.path) for v in self.variables]
        self.decays = [weight_decay if len(v.shape) > 1 else 0.0 for v in self.variables]
        self.helps = ["helper" in v.path for v in self.variables]
        self.begin()
        if JAX:
            import jax

            self.compiled = jax.jit(self._step, donate_argnums=(0,))
        else:
            import tensorflow as tf

            self.compiled = tf.function(self._step, autograph=False)

    def begin(self) -> None:
        """Take the state from the models as they are."""
        self.state: dict[str, Any] = {
            "trained": [v.value + 0.0 for v in self.variables],
            "rest": [v.value + 0 for m in self.models for v in m.non_trainable_variables],
            "first": [ops.zeros_like(v.value) for v in self.variables],
            "second": [ops.zeros_like(v.value) for v in self.variables],
            "average": [v.value + 0.0 for v in self.variables],
            "step": ops.convert_to_tensor(0.0),
        }

    def _split(self, values: list[Any], counts: list[int]) -> list[list[Any]]:
        stops = np.cumsum(counts)
        return [list(values[b - n : b]) for b, n in zip(stops, counts, strict=True)]

    def _losses(self, trained: list[Any], rest: list[Any], draw: Any, constants: Any) -> Any:
        parts, others = self._split(trained, self.counts), self._split(rest, self.rest)

        def outs(i: int, *args: Any, **kwargs: Any) -> Any:
            out, others[i] = self.models[i].stateless_call(parts[i], others[i], *args, **kwargs)
            return out

        loss, figures = self.loss(outs, draw, constants)
        return loss, (figures, [v for o in others for v in o])

    def _gradients(self, state: dict[str, Any], draw: Any, constants: Any) -> Any:
        trained, rest = state["trained"], state["rest"]
        if JAX:
            import jax

            (_, told), gradients = jax.value_and_grad(self._losses, has_aux=True)(
                trained, rest, draw, constants
            )
            return gradients, told
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(trained)
            loss, told = self._losses(trained, rest, draw, constants)
        return tape.gradient(loss, trained), told

    def _step(self, state: dict[str, Any], draw: Any, constants: Any, factor: Any) -> Any:
        gradients, (figures, rest) = self._gradients(state, draw, constants)
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))
        clipped = ops.minimum(1.0, CLIP_NORM / (norm + 1e-6))
        step = state["step"] + 1.0
        follow = ops.minimum(self.decay, (1 + step) / (10 + step))
        new: dict[str, Any] = {n: [] for n in ("trained", "first", "second", "average")}
        columns = ("trained", "first", "second", "average")
        told = (self.rates, self.decays, self.helps)
        rows = zip(*(state[n] for n in columns), gradients, *told, strict=True)
        for weight, first, second, average, gradient, rate, decay, helps in rows:
            gradient = gradient * clipped
            first = BETA_1 * first + (1 - BETA_1) * gradient
            second = BETA_2 * second + (1 - BETA_2) * ops.square(gradient)
            mean = first / (1 - BETA_1**step)
            deviation = ops.sqrt(second / (1 - BETA_2**step))
            move = mean / (deviation + 1e-7) + decay * weight
            weight = weight - rate * factor[HELPERS if helps else LEARNERS] * move
            average = average * follow + weight * (1 - follow)
            for name, value in zip(columns, (weight, first, second, average), strict=True):
                new[name].append(value)
        return new | {"rest": list(rest), "step": step}, {**figures, "norm": norm}

    def step(self, draw: Any, constants: Any, factor: float, helpers: float | None = None) -> Any:
        """Advance the state, at a share of the peak learning rates; returns figures.

        `helpers` is the share for the layers that only training has, where it is another.
        """
        scale = ops.convert_to_tensor(
            np.array([factor, factor if helpers is None else helpers], np.float32)
        )
        self.state, figures = self.compiled(self.state, draw, constants, scale)
        return figures

    def settle(self, averaged: bool = True) -> None:
        """Put the (averaged) weights into the models."""
        values = self.state["average" if averaged else "trained"]
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        rest = [v for m in self.models for v in m.non_trainable_variables]
        for variable, value in zip(rest, self.state["rest"], strict=True):
            variable.assign(value)


def cross_entropy(logits: Any, labels: Any, smooth: float, counted: Any | float = 1.0) -> Any:
    """Mean over the batch, of labels smoothed over all classes."""
    classes = logits.shape[-1]
    wanted = ops.one_hot(labels, classes) * (1 - smooth) + smooth / classes
    return -ops.mean(counted * ops.sum(wanted * ops.log_softmax(logits), axis=-1))


def standardised(x: Any, axes: tuple[int, ...]) -> Any:
    """Less the mean and over the deviation, of a batch."""
    mean = ops.mean(x, axis=axes, keepdims=True)
    return (x - mean) / ops.sqrt(ops.var(x, axis=axes, keepdims=True) + 1e-6)


def constants_of(segments: Segments, drawer: Drawer) -> dict[str, Any]:
    """What lies in the accelerator's memory all the time."""
    return {"bank": ops.convert_to_tensor(np.asarray(segments.samples))}


def room_constants(segments: Segments, drawer: Drawer, samples: int) -> dict[str, Any]:
    """Rooms and equaliser for windows of so many samples."""
    rooms = [
        segments.samples[segments.starts[i] : segments.starts[i] + segments.lengths[i]] / 32768.0
        for i in drawer.rooms
    ]
    real, imaginary = room_spectra(rooms, samples)
    return {
        "real": ops.convert_to_tensor(real),
        "imaginary": ops.convert_to_tensor(imaginary),
        "basis": ops.convert_to_tensor(eq_basis(transform_size(samples))),
    }


def heard(
    draw: Any, constants: Any, samples: int, mixed: Any | None = None, variants: int = 1
) -> tuple[Any, Any]:
    """Clean and augmented waveforms of a draw.

    `mixed`, shape (batch,), is how loud the neighbour in the batch speaks into a clip: for lessons
    of a teacher, who says what is to be heard in it.
    """
    bank = constants["bank"]
    clean = stretch(bank, draw["starts"], draw["counts"], draw["lead"], draw["rate"], samples)
    if mixed is not None:
        clean = clean + mixed[:, None] * ops.roll(clean, variants, axis=0)
    ones = ops.ones_like(draw["rate"])
    noise = stretch(
        bank,
        draw["noise_starts"],
        draw["noise_counts"],
        ops.zeros_like(draw["lead"]),
        ones,
        samples,
    )
    rooms = (constants["real"], constants["imaginary"])
    return clean, augmented(clean, noise, draw, rooms, constants["basis"])


def rate_factor(progress: float, warmup: float = 0.04) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to a hundredth."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return float(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (progress - warmup) / (1 - warmup))))


class Clock:
    """Stops a run when its time is up, and says where it stands."""

    def __init__(self, limit_s: float) -> None:
        self.start, self.limit_s, self.latest_s = time.time(), limit_s, 0.0

    def progress(self, step: int, steps: int) -> float:
        """Share of the run that is over: of its steps or of its time, whichever is more."""
        return min(1.0, max(step / steps, self.spent_s / self.limit_s))

    def due(self, every_s: float) -> bool:
        """Whether so much time has passed since it was last due."""
        if self.spent_s - self.latest_s < every_s:
            return False
        self.latest_s = self.spent_s
        return True

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.time() - self.start > self.limit_s

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.time() - self.start


def fit_large(config: dict[str, Any], segments: Segments, given: Any) -> None:
    """Fine-tune Whisper's first layers and a head."""
    settings = config["large"]
    languages = config["data"]["languages"]
    labels = [*languages, "other", "nonspeech"]
    front_end = large_front_end()
    filters = ops.convert_to_tensor(filterbank(front_end))
    model = Large(settings["layers"], len(labels), settings.get("dropout", 0.1), given.precision)
    with np.load(given.start, allow_pickle=False) as archive:
        arrays = {k: archive[k] for k in archive.files}
    model.load_arrays(arrays)
    drawer = Drawer(segments, labels, config["seed"], settings.get("tts_weight", 0.6))
    steps = given.steps or settings["steps"]

    def loss(outs: Any, draw: Any, constants: Any) -> Any:
        samples = constants["samples_like"].shape[0]
        _, wave = heard(draw, constants, samples)
        features = log_mel(wave, front_end, filters)
        features = masked(features, draw["times"], draw["bands"])
        logits = outs(0, features, training=True, drop=draw["drop"])
        found = cross_entropy(logits, draw["labels"], settings.get("label_smoothing", 0.05))
        hit = ops.mean(
            ops.cast(
                ops.equal(ops.argmax(logits, -1), ops.cast(draw["labels"], "int32")), "float32"
            )
        )
        return found, {"loss": found, "hit": hit}

    stepper = Stepper(
        [model],
        loss,
        lambda path: settings["encoder_rate" if "encoder" in path else "head_rate"],
        settings.get("weight_decay", 0.01),
        settings.get("average_decay", 0.998),
    )
    shared = constants_of(segments, drawer)
    lengths = settings["lengths_s"]
    constants = {}
    for s in set(lengths):
        samples = samples_of(round(s * 100))
        constants[s] = (
            shared
            | room_constants(segments, drawer, samples)
            | {"samples_like": ops.zeros((samples,))}
        )
    judge = Judge(segments, labels, given.most)
    clock, clips = Clock(given.limit_s), 0
    best: Any = None

    def evaluated(step: int) -> None:
        nonlocal best
        score = judge.large(model, filters, front_end, shared["bank"])
        print(f"dev {step} {clock.spent_s:.0f} s {select(score)}", json.dumps(score), flush=True)
        description = {"config": config, "steps": step, "clips": clips, "scores": score}
        if best is None or select(score) > select(best[1]["scores"]):
            best = (model.arrays(), description)
            save_parts(given.output, *best)

    if "head/kernel" not in arrays and "large/0" not in arrays:
        fit_head(model, settings, drawer, constants, front_end, filters, given.batch_scale)
        stepper.begin()
        evaluated(0)
        clock = Clock(given.limit_s)
    for step in range(steps):
        s = lengths[step % len(lengths)]
        frames = round(s * 100)
        size = max(8, int(settings["batch_s"] * given.batch_scale / s) // 8 * 8)
        draw = drawer.batch(size, samples_of(frames), frames, front_end.mels)
        draw["drop"] = (drawer.rng.random((size, model.pooled)) > model.dropout).astype(
            np.float32
        ) / (1 - model.dropout)
        figures = stepper.step(draw, constants[s], rate_factor(clock.progress(step, steps)))
        clips += size
        last = step + 1 == steps or clock.over
        if step % given.log_every == 0 or last:
            print(
                f"step {step + 1} {clock.spent_s:.0f} s, {clips} clips, {s:g} s:",
                {k: round(float(v), 4) for k, v in figures.items()},
                flush=True,
            )
        if last or clock.due(given.evaluate_every_s):
            stepper.settle()
            evaluated(step + 1)
        if last:
            break


def fit_head(
    model: Large,
    settings: dict[str, Any],
    drawer: Drawer,
    constants: dict[float, dict[str, Any]],
    front_end: FrontEndConfig,
    filters: Any,
    scale: float,
) -> None:
    """Fit the linear layer to pooled statistics of the encoder as it came.

    Beginning with a random layer, the encoder would first unlearn what it brought (Kumar et al.
    2022, "Fine-tuning can distort pretrained features").
    """
    from sklearn.linear_model import LogisticRegression

    variables = model.variables

    def pooled(values: Any, draw: Any, constants: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            _, wave = heard(draw, constants, constants["samples_like"].shape[0])
            return model.pool(model.tokens(log_mel(wave, front_end, filters)))

    if JAX:
        import jax

        pooled = jax.jit(pooled)
    found, labels = [], []
    for turn in range(settings["head_batches"]):
        s = settings["lengths_s"][turn % len(settings["lengths_s"])]
        frames = round(s * 100)
        size = max(8, int(settings["batch_s"] * scale / 3) // 8 * 8)
        draw = drawer.batch(size, samples_of(frames), frames, front_end.mels)
        found.append(np.asarray(pooled([v.value for v in variables], draw, constants[s])))
        labels.append(draw["labels"])
    x, y = np.concatenate(found), np.concatenate(labels)
    mean, variance = x.mean(0), x.var(0)
    z = (x - mean) / np.sqrt(variance + 1e-5)
    # The penalty for each example is what counts, however many there are.
    strength = 1.0 / (settings["head_penalty"] * len(z))
    head = LogisticRegression(C=strength, max_iter=150).fit(z, y)
    print(f"head fitted to {len(z)} windows: right for {head.score(z, y):.3f} of them", flush=True)
    model.centre.set_weights([mean, variance])
    model.scores.set_weights([head.coef_.T, head.intercept_])


def select(score: dict[str, Any]) -> float:
    """The one number that picks a checkpoint."""
    return round(float(np.mean([v["macro"] for v in score.values()])), 4)


class Judge:
    """Scores on the speech held out for decisions."""

    def __init__(self, segments: Segments, labels: list[str], most: int, batch: int = 64) -> None:
        self.labels, self.batch = labels, batch
        self.windows = {
            s: development_windows(segments, labels, samples_of(round(s * 100)), 12, most)
            for s in (1.0, 3.0, 10.0)
        }
        self.calls: dict[Any, Any] = {}

    def waves(self, bank: Any, s: float) -> Any:
        """Batches of waveforms, at a common level."""
        starts = self.windows[s][0]
        samples = samples_of(round(s * 100))
        for i in range(0, len(starts), self.batch):
            some = np.resize(starts[i : i + self.batch], self.batch)
            index = some[:, None] + np.arange(samples)[None]
            wave = ops.cast(ops.take(bank, index.astype(np.int32)), "float32") / 32768.0
            yield wave, min(self.batch, len(starts) - i)

    def scores(self, call: Callable[[Any], Any], bank: Any, s: float) -> dict[str, Any]:
        """Macro accuracy of a function from waveforms to scores."""
        found = [np.asarray(call(w))[:n] for w, n in self.waves(bank, s)]
        _, labels, sources = self.windows[s]
        return macro_accuracy(np.concatenate(found), labels, sources, len(self.labels) - 2)

    def compiled(self, models: list[Any], call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function, compiled once for all weights that the models will ever have."""
        variables = [v for m in models for v in m.variables]

        def pure(values: list[Any], wave: Any) -> Any:
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return call(wave)

        if "pure" not in self.calls:
            if JAX:
                import jax

                self.calls["pure"] = jax.jit(pure)
            else:
                import tensorflow as tf

                self.calls["pure"] = tf.function(pure, autograph=False)
        fast = self.calls["pure"]
        return lambda wave: fast([v.value for v in variables], wave)

    def large(
        self, model: Any, filters: Any, front_end: FrontEndConfig, bank: Any
    ) -> dict[str, Any]:
        """Scores of the large model; 10 s as the mean over windows of 3 s."""

        def call(wave: Any) -> Any:
            features = log_mel(wave, front_end, filters)
            if features.shape[1] <= 300:
                return model(features)
            parts = [features[:, i : i + 300] for i in range(0, features.shape[1] - 299, 175)]
            return sum(ops.log_softmax(model(p)) for p in parts) / len(parts)

        return self._all(self.compiled([model], call), bank)

    def compact(
        self, trunk: Any, head: Any, filters: Any, front_end: FrontEndConfig, bank: Any
    ) -> dict[str, Any]:
        """Scores of the compact model."""
        from train.model.network import pool

        def call(wave: Any) -> Any:
            frames = log_mel(wave, front_end, filters)
            embeddings, weights, _ = trunk(frames[:, :, None, :])
            return head(pool(ops.cast(embeddings, "float32"), ops.cast(weights, "float32")))

        return self._all(self.compiled([trunk, head], call), bank)

    def _all(self, call: Callable[[Any], Any], bank: Any) -> dict[str, Any]:
        found = {f"{s:g}s": self.scores(call, bank, s) for s in self.windows}
        return {
            k: (v if k == "3s" else {x: v[x] for x in ("macro", "by_language", "n")})
            for k, v in found.items()
        }


def run_config(config: dict[str, Any]) -> RunConfig:
    """A compact model's configuration, as every other command knows it.

    Raises
    ------
    EdgelidError
        If a key is missing, unknown or ill-typed.
    """
    settings = config["compact"]
    told = {name: config[name] for name in ("seed", "data", "model")}
    told["front_end"] = config.get("front_end", {})
    told["optimiser"] = {
        "steps": settings["steps"],
        "warmup_steps": 0,
        "batch_clips": settings["batch"],
        "clip_s": settings["clip_s"],
        "learning_rate": settings["rate"],
        "weight_decay": settings["weight_decay"],
        "label_smoothing": settings["label_smoothing"],
        "average_decay": settings["average_decay"],
    }
    return from_dict(RunConfig, told, "the configuration")


def fit_compact(config: dict[str, Any], segments: Segments, given: Any) -> None:
    """Distil the large model into a compact streaming one."""
    from train.model.checkpoint import Checkpoint, load_checkpoint, weights_of
    from train.model.network import Head, Trunk, pool

    settings = config["compact"]
    labels = [*config["data"]["languages"], "other", "nonspeech"]
    told = run_config(config)
    shape, front_end = told.model, told.front_end
    teacher_end = large_front_end()
    filters = ops.convert_to_tensor(filterbank(front_end))
    teacher_filters = ops.convert_to_tensor(filterbank(teacher_end))
    arrays, description = load_parts(given.teacher)
    teacher = Large(description["config"]["large"]["layers"], len(labels), 0.0, given.precision)
    teacher.load_arrays(arrays)
    teacher.trainable = False

    keras.config.set_dtype_policy(given.precision)
    trunk = Trunk(shape)
    keras.config.set_dtype_policy("float32")
    head = Head(shape, len(labels))
    trunk(np.zeros((1, 8 * shape.stride, 1, shape.mels), np.float32))
    head(np.zeros((1, 2 * shape.embedding), np.float32))
    helper = keras.layers.Dense(teacher.dim, name="frames_helper")
    helper.build((None, None, shape.embedding))
    pooled_helper = keras.layers.Dense(teacher.pooled, name="pooled_helper")
    pooled_helper.build((None, 2 * shape.embedding))
    evidence_helper = keras.layers.Dense(len(labels), name="evidence_helper")
    evidence_helper.build((None, None, shape.embedding))
    if given.start:
        begun = load_checkpoint(given.start).arrays
        for name, model in (("trunk", trunk), ("head", head)):
            model.set_weights([begun[f"{name}/{i}"] for i in range(len(model.get_weights()))])

    drawer = Drawer(segments, labels, config["seed"] + 1, settings.get("tts_weight", 0.6))
    steps = given.steps or settings["steps"]
    frames = round(settings["clip_s"] * 100) // (4 * shape.stride) * 4 * shape.stride
    samples = samples_of(frames)
    embeddings_count = frames // shape.stride
    group = shape.stride // 2  # tokens of the teacher an embedding
    delay = round(shape.delay_frames / shape.stride)
    windows = [min(embeddings_count, round(s * 100 / shape.stride)) for s in settings["windows_s"]]
    # The teacher is the dearer of the two where there is no GPU: several augmented variants of a
    # stretch of speech share its one hearing of the clean one.
    variants = settings.get("variants", 1)
    w = settings["weights"]
    temperature = settings.get("temperature", 2.0)

    def loss(outs: Any, draw: Any, constants: Any) -> Any:
        clean, wave = heard(draw, constants, samples, draw["mixed"], variants)
        peak = ops.max(ops.abs(clean), axis=1, keepdims=True)
        clean = clean / (peak + 1e-4) * 0.5
        with keras.StatelessScope(list(zip(teacher.variables, constants["teacher"], strict=True))):
            heard_once = log_mel(clean[::variants], teacher_end, teacher_filters)
            tokens = ops.repeat(teacher.tokens(heard_once), variants, axis=0)
        targets = ops.stop_gradient(ops.cast(tokens, "float32"))  # (batch, tokens, dim)
        # A few channels of a transformer are large and say nothing: each counts alike here.
        even = standardised(targets, (0, 1))
        features = masked(log_mel(wave, front_end, filters), draw["times"], draw["bands"])
        embeddings, gates, _ = outs(0, features[:, :, None, :], training=True)
        embeddings, gates = ops.cast(embeddings, "float32"), ops.cast(gates, "float32")

        # Frames: what the teacher hears at the middle of what an embedding is about.
        told = ops.mean(ops.reshape(even, (-1, embeddings_count, group, teacher.dim)), axis=2)
        said = outs(2, embeddings[:, :, 0])
        told_raw = ops.mean(
            ops.reshape(targets, (-1, embeddings_count, group, teacher.dim)), axis=2
        )
        said, told = said[:, delay:], told[:, : embeddings_count - delay]
        told_raw = told_raw[:, : embeddings_count - delay]
        likeness = ops.sum(ops.normalize(said, -1) * ops.normalize(told, -1), axis=-1)
        speech = ops.cast(draw["labels"] < len(labels) - 1, "float32")
        alone = ops.cast(draw["mixed"] < 0.05, "float32")
        frame_loss = ops.mean((1 - likeness) * speech[:, None])

        # What speaks for each class at each moment: the teacher's linear layer on its tokens.
        their_evidence = ops.matmul(ops.cast(told_raw, "float32"), constants["evidence"])
        spread = ops.sqrt(ops.var(their_evidence, axis=(0, 1), keepdims=True) + 1e-6)
        evidence = outs(4, embeddings[:, :, 0])[:, delay:]
        evidence_loss = ops.mean(
            ops.mean(
                ops.square(
                    (their_evidence - ops.mean(their_evidence, (0, 1), keepdims=True)) / spread
                    - evidence
                ),
                -1,
            )
            * speech[:, None]
        )
        total = w["frames"] * frame_loss + w["evidence"] * evidence_loss
        figures = {"frames": frame_loss, "evidence": evidence_loss}
        classes = kind = stats = 0.0
        hits = []
        for k, n in enumerate(windows):
            mask = ops.cast(
                ops.logical_and(
                    ops.arange(embeddings_count)[None] >= draw["window"][:, k : k + 1],
                    ops.arange(embeddings_count)[None] < draw["window"][:, k : k + 1] + n,
                ),
                "float32",
            )
            pooled = pool(embeddings, gates, mask)
            logits = outs(1, pooled, training=True, drop=draw["drop"][:, k])
            # The teacher judges the same stretch, from tokens that know all of the clip.
            doubled = ops.repeat(mask, group, axis=1)
            with keras.StatelessScope(
                list(zip(teacher.variables, constants["teacher"], strict=True))
            ):
                their_stats = teacher.pool(targets, doubled)
                theirs = ops.stop_gradient(teacher.classify(their_stats))
            classes += cross_entropy(
                logits, draw["labels"], settings.get("label_smoothing", 0.05), alone
            )
            soft = ops.softmax(theirs / temperature)
            kind += (
                -ops.mean(ops.sum(soft * ops.log_softmax(logits / temperature), -1)) * temperature
            )
            guess = outs(3, pooled)
            wanted = ops.stop_gradient(standardised(their_stats, (0,)))
            stats += ops.mean(
                (1 - ops.sum(ops.normalize(guess, -1) * ops.normalize(wanted, -1), -1)) * speech
            )
            hits.append(
                ops.mean(
                    ops.cast(
                        ops.equal(ops.argmax(logits, -1), ops.cast(draw["labels"], "int32")),
                        "float32",
                    )
                )
            )
        n = len(windows)
        total = (
            total + (w["classes"] * classes + w["posteriors"] * kind + w["statistics"] * stats) / n
        )
        figures |= {
            "classes": classes / n,
            "soft": kind / n,
            "stats": stats / n,
            **{f"hit{s:g}": h for s, h in zip(settings["windows_s"], hits, strict=True)},
        }
        return total, figures

    stepper = Stepper(
        [trunk, head, helper, pooled_helper, evidence_helper],
        loss,
        lambda path: settings["rate"],
        settings.get("weight_decay", 0.02),
        settings.get("average_decay", 0.999),
    )
    bank = constants_of(segments, drawer)
    constants = bank | room_constants(segments, drawer, samples)
    constants |= {"teacher": [v.value for v in teacher.variables]}
    deviation = np.sqrt(np.asarray(teacher.centre.moving_variance)[: teacher.dim] + 1e-5)
    kernel = np.asarray(teacher.scores.kernel)[: teacher.dim] / deviation[:, None]
    constants |= {"evidence": ops.convert_to_tensor(kernel)}
    judge = Judge(segments, labels, given.most)
    clock, clips = Clock(given.limit_s), 0
    size = max(8, int(settings["batch"] * given.batch_scale) // 8 * 8)
    score: dict[str, Any] = {}
    for step in range(steps):
        draw = drawer.batch(size, samples, frames, front_end.mels)
        for name in ("labels", "starts", "counts", "lead", "rate"):
            draw[name] = np.repeat(draw[name][::variants], variants)
        draw["window"] = np.stack(
            [drawer.rng.integers(0, embeddings_count - n + 1, size) for n in windows], 1
        ).astype(np.int32)
        draw["mixed"] = np.repeat(
            np.where(
                drawer.rng.random(size) < settings.get("mixed_share", 0.2),
                drawer.rng.uniform(0.2, 1.0, size),
                0.0,
            )[::variants],
            variants,
        ).astype(np.float32)
        draw["drop"] = (
            drawer.rng.random((size, len(windows), shape.hidden)) > shape.dropout
        ).astype(np.float32) / (1 - shape.dropout)
        if given.start and step < HELPER_STEPS:
            # What is learnt anew must not undo what was learnt before.
            figures = stepper.step(draw, constants, 0.0, HELPER_FACTOR)
            clock = Clock(given.limit_s)
        else:
            figures = stepper.step(draw, constants, rate_factor(clock.progress(step, steps)))
        clips += size
        last = step + 1 == steps or clock.over
        if step % given.log_every == 0 or last:
            print(
                f"step {step + 1} {clock.spent_s:.0f} s, {clips} clips:",
                {k: round(float(v), 4) for k, v in figures.items()},
                flush=True,
            )
        if last or clock.due(given.evaluate_every_s):
            stepper.settle()
            score = (
                {}
                if given.most == 0
                else judge.compact(trunk, head, filters, front_end, bank["bank"])
            )
            print(f"dev {step + 1} {clock.spent_s:.0f} s", json.dumps(score), flush=True)
            checkpoint = Checkpoint(run_config(config), step + 1, score, weights_of(trunk, head))
            checkpoint.save(given.output)
        if last:
            break
