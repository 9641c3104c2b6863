class ScriptedRandom:
    """Gives the draws that it was told and fails on any other call, so that tests see their order.

    Each draw is ("uniform", value), ("normal", value), ("randint", bounds, value) or ("permutation", value).
    """

    def __init__(self, *draws):
        self.draws = list(draws)

    def uniform(self):
        return self._next("uniform")

    def normal(self, scale):
        assert scale == 25
        return self._next("normal")

    def randint(self, low, high):
        value = self._next("randint", (low, high))
        assert low <= value < high
        return value

    def permutation(self, n):
        return self._next("permutation", n)

    def shuffle(self, items):
        assert len(items) == 1

    def _next(self, *call):
        *expected, value = self.draws.pop(0)
        assert list(call) == expected
        return value
