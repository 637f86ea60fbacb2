#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A selection of the matrix, in which every three values that can occur together do."""
import itertools

import matrix
from machine import main

STRENGTH = 3


def test_combinations__are_all_or_have_a_reason(_folder):
    rows, reasons = matrix.combinations()
    every = 1
    for values in matrix.FACTORS.values():
        every *= len(values)
    assert len(rows) + sum(reasons.values()) == every
    assert all(reasons.values()), "a reason for nothing: %s" % reasons
    assert len({matrix.name_of(row) for row in rows}) == len(rows)


def test_select__every_pair_that_exists_occurs(_folder):
    rows, _ = matrix.combinations()
    for strength in (2, STRENGTH):
        chosen = matrix.select(rows, strength)
        assert all(row in rows for row in chosen)
        for (one, ones), (two, twos) in itertools.combinations(matrix.FACTORS.items(), 2):
            for values in itertools.product(ones, twos):
                def has(row):
                    return (row[one], row[two]) == values

                assert any(map(has, rows)) == any(map(has, chosen)), (one, two, values)
        assert len(chosen) < len(rows) // 20, "%d are no selection" % len(chosen)


def test_select__every_three_that_exist_occur(_folder):
    rows, _ = matrix.combinations()
    chosen = matrix.select(rows, STRENGTH)
    for factors in itertools.combinations(matrix.FACTORS, STRENGTH):
        def values(row):
            return tuple(row[factor] for factor in factors)

        assert set(map(values, rows)) == set(map(values, chosen)), factors


def test_select__is_the_same_each_time(_folder):
    rows, _ = matrix.combinations()
    assert matrix.select(rows, 2) == matrix.select(rows, 2)


def test_row__another_disk_in_its_place_is_noticed(folder):
    """A row passes only with its own value of each factor."""
    row = dict(zip(matrix.FACTORS, ("mmio", "packed", "on", "on", "irq", 2, 16, 512, "on",
                                    "write")))
    matrix.run_row(row, 0, folder)
    for factor, values in matrix.FACTORS.items():
        other = {**row, factor: next(value for value in values if value != row[factor])}
        try:
            matrix.run_row(row, 0, folder, made_as=other)
        except AssertionError:
            continue
        raise AssertionError("nobody noticed another %s" % factor)


def test_matrix__selection(_folder):
    rows, reasons = matrix.combinations()
    rows = matrix.select(rows, STRENGTH)
    failures = matrix.run_rows(rows)
    for row in rows:
        name = matrix.name_of(row)
        print("%s matrix: %s" % ("not ok" if name in failures else "ok", name))
    print(matrix.table(rows, failures, reasons))
    assert not failures, "\n".join("%s: %s" % item for item in failures.items())


main(globals())
