"""The emotion that a name in the labels stands for, such as "angry" for "anger" and "خشم"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from fer_jax.data import names
from fer_jax.languages import emotions as known_emotions
from fer_jax.plugins import did_you_mean


class EmotionNames:
    """The names that are read as one of a closed set of emotions, or ignored.

    These are the names in `emotions` and `ignore`, and their aliases in
    `fer_jax/languages/emotions.toml`. An alias that is itself one of `emotions` or `ignore` keeps
    that meaning. If two of `emotions` (or two of `ignore`) are names of the same emotion, the
    aliases of that emotion are not recognised.

    Args:
        emotions: the closed set.
        ignore: emotions whose photographs are skipped.
    """

    def __init__(self, emotions: Sequence[str], ignore: Sequence[str] = ()) -> None:
        self._spellings = [*emotions]
        self._meanings: dict[str, str | None] = {}
        # Later entries replace earlier ones.
        for alias, _ in _aliases(ignore):
            self._meanings[_compact(alias)] = None
        for alias, emotion in _aliases(emotions):
            self._meanings[_compact(alias)] = emotion
            self._spellings.append(alias)
        self._meanings |= {names.key(emotion): emotion for emotion in emotions}
        self._meanings |= dict.fromkeys(map(names.key, ignore))

    def find(self, name: str) -> str | None:
        """The emotion that `name` stands for; None if it is ignored.

        Raises:
            KeyError: the name is unknown.
        """
        key = names.key(name)
        return self._meanings[key if key in self._meanings else _compact(name)]

    def suggestion(self, name: str) -> str:
        """A hint such as " (did you mean 'happy'?)", or "" if no known name is similar to it."""
        return did_you_mean(names.key(name), self._spellings)


def is_alias(name: str, emotion: str) -> bool:
    """Whether `name` is a different name from `emotion`, not only another spelling of it."""
    return names.key(name) != names.key(emotion)


def _aliases(emotions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (name, emotion) for all names of each of `emotions` that `emotions.toml` contains.

    If two of `emotions` are names of the same known emotion, both are left out.
    """
    labels = {emotion: _label(emotion) for emotion in emotions}
    counts = Counter(labels.values())
    for emotion, label in labels.items():
        if label and counts[label] == 1:
            yield from ((alias, emotion) for alias in _all_names(label))


def _label(name: str) -> str | None:
    """The label that `emotions.toml` has for a name or alias; None if it has neither."""
    compact = _compact(name)
    for label in known_emotions.table():
        if compact in map(_compact, _all_names(label)):
            return label
    return None


def _all_names(label: str) -> Iterable[str]:
    emotion = known_emotions.table()[label]
    return (label, *emotion.names.values(), *emotion.aliases)


def _compact(name: str) -> str:
    """The key of a name, without spaces, since a space is often typed instead of a joiner."""
    return names.key(name).replace(" ", "")
