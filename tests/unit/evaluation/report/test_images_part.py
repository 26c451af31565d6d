from collections import Counter

import pytest

from visionyard.evaluation.report.images_part import _Ranked, choose


def _ranked(count: int, class_count: int = 3) -> list[_Ranked]:
    return [_Ranked(n, (n * 37 % count) / count, n % class_count) for n in range(count)]


def test_few_images_are_all_shown_worst_first() -> None:
    chosen = choose(_ranked(7), 10)
    assert sorted(one.position for one in chosen) == list(range(7))
    assert [one.quality for one in chosen] == sorted(one.quality for one in chosen)


def test_many_images_show_the_worst_the_best_and_all_classes() -> None:
    ranked = _ranked(1000)
    chosen = choose(ranked, 50)
    assert len({one.position for one in chosen}) == 50
    by_quality = sorted(ranked, key=lambda one: (one.quality, one.position))
    assert chosen[:20] == by_quality[:20]
    assert chosen[-10:] == by_quality[-10:]
    middle = chosen[20:40]
    assert max(Counter(one.class_id for one in middle).values()) <= 7
    assert [one.quality for one in chosen] == sorted(one.quality for one in chosen)


@pytest.mark.parametrize("rare", [0, 1, 3, 100])
def test_a_rare_class_leaves_its_share_to_the_others(rare: int) -> None:
    ranked = [_Ranked(n, 0.5, 0) for n in range(500)] + [_Ranked(500 + n, 0.5, 1) for n in range(rare)]
    chosen = choose(ranked, 50)
    assert len(chosen) == len({one.position for one in chosen}) == 50


def test_the_choice_does_not_depend_on_the_order_given() -> None:
    ranked = _ranked(300)
    assert choose(ranked, 50) == choose(ranked[::-1], 50)
