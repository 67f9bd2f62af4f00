"""Run with `python3 -m unittest discover -s benches -t benches`."""

import unittest

from .report import Bar, Rows, Sample, aligned, judge


def rows(*values: tuple[str, int, float], failed: str | None = None) -> Rows:
    return Rows(
        [Sample(row, number, {"cpu": cpu}, "it broke" if row == failed else None) for row, number, cpu in values]
    )


class Report(unittest.TestCase):
    def test_a_ratio_is_the_median_of_the_rounds_own_ratios(self) -> None:
        # The machine was twice as slow in round 1: the ratios of the rounds are 3, 3 and 4.
        measured = rows(("native", 0, 1), ("a", 0, 3), ("native", 1, 2), ("a", 1, 6), ("native", 2, 1), ("a", 2, 4))
        self.assertEqual(measured.median_ratio("a", "native", "cpu"), 3)

    def test_a_difference_is_the_median_of_the_rounds_own_differences(self) -> None:
        # The base rose in round 1, and what comes on top did not.
        measured = rows(("base", 0, 1), ("a", 0, 3), ("base", 1, 5), ("a", 1, 7), ("base", 2, 1), ("a", 2, 9))
        self.assertEqual(measured.median_difference("a", "base", "cpu"), 2)
        with self.assertRaises(KeyError):
            measured.median_difference("a", "absent", "cpu")

    def test_a_promise_for_every_round_is_held_against_the_worst(self) -> None:
        measured = rows(("a", 0, 1), ("a", 1, 9), ("a", 2, 1))
        self.assertEqual(measured.highest("a", "cpu"), 9)
        with self.assertRaises(KeyError):
            rows(("a", 0, 1), failed="a").highest("a", "cpu")

    def test_a_row_with_one_error_has_no_figures(self) -> None:
        measured = rows(("native", 0, 1), ("a", 0, 3), failed="a")
        with self.assertRaises(KeyError):
            measured.median("a", "cpu")
        with self.assertRaises(KeyError):
            measured.median_ratio("a", "native", "cpu")
        self.assertEqual(measured.median("native", "cpu"), 1)
        self.assertTrue(measured.failed())

    def test_a_bar_holds_is_missed_or_was_not_measured(self) -> None:
        measured = rows(("a", 0, 2))
        bars = [
            Bar("holds", 2, "s", lambda r: r.median("a", "cpu")),
            Bar("missed", 1.9, "s", lambda r: r.median("a", "cpu")),
            Bar("absent", 1, "s", lambda r: r.median("b", "cpu")),
        ]
        self.assertEqual([verdict.word for verdict in judge(measured, bars)], ["holds", "MISSED", "not measured"])

    def test_a_table_is_markdown(self) -> None:
        self.assertEqual(aligned([["", "x"], ["row", "1.5"]]), "|     |   x |\n| --- | --: |\n| row | 1.5 |")


if __name__ == "__main__":
    unittest.main()
